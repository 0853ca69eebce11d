//! Softmax along the innermost axis.

use candle_core::{Result, Tensor};

use crate::{accumulates_in_f32, is_half, reference, upcast};

/// `e^x / sum(e^x)` along the innermost axis: fused if no gradient is asked for. In 16 bits it is computed in `f32` and rounded once.
///
/// # Shapes
/// The result has that of `x`.
///
/// # Errors
/// If `x` has no axis, or the device fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if is_half(x.dtype()) && !accumulates_in_f32(x) {
        return softmax(&upcast(x)?)?.to_dtype(x.dtype());
    }
    match x.track_op() {
        true => reference::softmax(x),
        false => candle_nn::ops::softmax_last_dim(&x.contiguous()?),
    }
}
