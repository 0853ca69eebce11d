//! Writing into a part of a tensor with candle's own operations: on every device, and with a gradient.

use candle_core::{Result, Tensor};

use super::Extent;

/// As [`patch`](super::patch), slower: the tensor is put together anew along every axis.
///
/// # Errors
/// As [`patch`](super::patch).
pub fn patch(base: &Tensor, extents: &[Extent], value: &Tensor) -> Result<Tensor> {
    let Some((Extent { axis, span }, rest)) = extents.split_first() else {
        return value.broadcast_as(base.shape())?.contiguous();
    };
    let inner = patch(&base.narrow(*axis, span.start, span.len)?, rest, value)?;
    let after = span.start + span.len;
    let mut pieces = Vec::with_capacity(3);
    if span.start > 0 {
        pieces.push(base.narrow(*axis, 0, span.start)?);
    }
    pieces.push(inner);
    if after < base.dim(*axis)? {
        pieces.push(base.narrow(*axis, after, base.dim(*axis)? - after)?);
    }
    Tensor::cat(&pieces, *axis)
}
