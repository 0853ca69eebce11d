//! The one operation that interventions add to a model, writing into a part of a tensor; and what a fast model needs beside candle where
//! gradients may be asked for.

mod chain;
mod cpu;
mod half;
mod reference;
mod softmax;
mod sum;

use candle_core::{Device, Result, Tensor};

pub(crate) use chain::{FusedElementwise, Operand};
pub use half::{is_finite, is_half, largest, saturate, widen, widen_for_sums};
pub use reference::patch as patch_reference;
pub use softmax::softmax;
pub(crate) use sum::sum_in_portions;

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
    let value = saturate(value, base.dtype())?;
    match base.device() {
        Device::Cpu if !base.track_op() && !value.track_op() => cpu::patch(base, extents, &value, own),
        _ => {
            *own = false;
            // What is written in many places has a gradient that is added up over them.
            let [wide_base, wide_value] = widen_for_sums([base, &value])?;
            patch_reference(&wide_base, extents, &wide_value)?.to_dtype(base.dtype())
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
