//! The one operation that interventions add to a model, writing into a part of a tensor; and what a fast model needs beside candle where
//! gradients may be asked for.

mod chain;
mod cpu;
mod reference;
mod softmax;

use candle_core::{Device, Result, Tensor};

pub(crate) use chain::{Chain, Operand};
pub use reference::patch as patch_reference;
pub use softmax::softmax;

use crate::graph::Span;

/// The entries `span` of the axis `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The axis.
    pub axis: usize,
    /// Its entries.
    pub span: Span,
}

/// A copy of `base` with `value` written into the part that the extents describe, one after the other.
///
/// # Shapes
/// `value` broadcasts to the part, which has the rank of `base`.
///
/// # Errors
/// Where an extent lies outside of `base`, or `value` does not broadcast.
pub fn patch(base: &Tensor, extents: &[Extent], value: &Tensor) -> Result<Tensor> {
    patch_own(base, extents, value, &mut false)
}

/// As [`patch`], but where `own` says that nobody else holds `base`, this may be written to itself. `own` then says whether that is so of the result.
///
/// # Errors
/// As [`patch`].
pub fn patch_own(base: &Tensor, extents: &[Extent], value: &Tensor, own: &mut bool) -> Result<Tensor> {
    let value = value.to_dtype(base.dtype())?;
    match base.device() {
        Device::Cpu if !base.track_op() && !value.track_op() => cpu::patch(base, extents, &value, own),
        _ => {
            *own = false;
            patch_reference(base, extents, &value)
        }
    }
}

/// The part of `base` that the extents describe, as a view.
///
/// # Errors
/// Where an extent lies outside of `base`.
pub fn part(base: &Tensor, extents: &[Extent]) -> Result<Tensor> {
    extents.iter().try_fold(base.clone(), |part, extent| part.narrow(extent.axis, extent.span.start, extent.span.len))
}
