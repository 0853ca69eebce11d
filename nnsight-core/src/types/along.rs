//! An axis by its name, or by its number as candle counts it.

use candle_core::D;
use candle_core::Tensor as Candle;

use super::{HasAxis, Saved, Shape, Tensor};
use crate::Result;

/// An axis of a tensor of shape `S`: one of its dimensions, for a result that has a type again, or a number, for candle's.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an axis of a tensor of shape `{S}`",
    label = "not an axis",
    note = "an axis is one of the shape's dimensions: `x.mean(Seq)`; one of your own is declared with `dim!(pub {Self})`"
)]
pub trait Along<S, I>: Sized {
    /// What a tensor without this axis is.
    type Removed<C, K>;
    #[doc(hidden)]
    fn position(&self, rank: usize) -> candle_core::Result<usize>;
    #[doc(hidden)]
    fn finish<C, K>(result: Result<Saved>) -> Self::Removed<C, K>;
}

/// Axes by numbers.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Numbered;

macro_rules! numbered {
    ($($number:ty),+) => {$(
        impl<S: Shape> Along<S, Numbered> for $number {
            type Removed<C, K> = candle_core::Result<Candle>;
            fn position(&self, rank: usize) -> candle_core::Result<usize> {
                use candle_core::shape::Dim as _;
                self.to_index(&vec![1; rank].into(), "axis")
            }
            fn finish<C, K>(result: Result<Saved>) -> Self::Removed<C, K> {
                let failed = |error: crate::Error| candle_core::Error::Msg(error.to_string());
                result.and_then(|saved| saved.whole().cloned()).map_err(failed)
            }
        }
    )+};
}
numbered!(usize, D);

/// Axes by their names.
#[doc(hidden)]
pub fn named<C, S: HasAxis<A, I>, A, I, K>(result: Result<Saved>) -> Result<Tensor<C, S::Removed, K>> {
    result.map(Tensor::of)
}
