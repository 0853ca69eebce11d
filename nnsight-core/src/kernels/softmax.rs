//! Softmax along the innermost axis.

use candle_core::{D, Result, Tensor};

use super::{is_half, widen};

/// `e^x / sum(e^x)` along the innermost axis: fused where no gradient is asked for, and in steps that have one where it is. In 16 bits it is computed
/// in `f32` and rounded once.
///
/// # Errors
/// Where a computation fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if is_half(x.dtype()) && (x.track_op() || x.device().is_cpu()) {
        return softmax(&widen(x)?)?.to_dtype(x.dtype());
    }
    if !x.track_op() {
        return candle_nn::ops::softmax_last_dim(&x.contiguous()?);
    }
    // The largest entry cancels out: no gradient goes through it.
    let largest = x.max_keepdim(D::Minus1)?.detach();
    let e = x.broadcast_sub(&largest)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}
