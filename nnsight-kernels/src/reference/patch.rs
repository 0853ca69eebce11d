//! Writing into a part of a tensor with candle's own operations: on every device, and with a gradient.

use candle_core::{Result, Tensor, bail};

use crate::{Extent, Span};

/// As [`patch`](crate::patch()), slower: the tensor is put together anew along every axis.
///
/// # Errors
/// As [`patch`](crate::patch()).
pub fn patch(base: &Tensor, extents: &[Extent], value: &Tensor) -> Result<Tensor> {
    // Several along one axis are one within the other.
    let mut by_axis: Vec<Extent> = Vec::new();
    for extent in extents {
        match by_axis.iter_mut().find(|other| other.axis == extent.axis) {
            Some(outer) if extent.span.start + extent.span.len <= outer.span.len => {
                outer.span = Span { start: outer.span.start + extent.span.start, len: extent.span.len };
            }
            Some(outer) => bail!("the part {:?} lies outside of {:?} of axis {}", extent.span, outer.span, extent.axis),
            None => by_axis.push(*extent),
        }
    }
    along_axes(base, &by_axis, value)
}

/// With one extent for each axis.
fn along_axes(base: &Tensor, extents: &[Extent], value: &Tensor) -> Result<Tensor> {
    let Some((Extent { axis, span }, rest)) = extents.split_first() else {
        return value.broadcast_as(base.shape())?.contiguous();
    };
    let inner = along_axes(&base.narrow(*axis, span.start, span.len)?, rest, value)?;
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
