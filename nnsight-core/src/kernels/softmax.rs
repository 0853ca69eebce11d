//! Softmax along the innermost axis.

use candle_core::{D, Result, Tensor};

/// `e^x / sum(e^x)` along the innermost axis: fused where no gradient is asked for, and in steps that have one where it is.
///
/// # Errors
/// Where a computation fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if !x.track_op() {
        return candle_nn::ops::softmax_last_dim(&x.contiguous()?);
    }
    // The largest entry cancels out: no gradient goes through it.
    let largest = x.max_keepdim(D::Minus1)?.detach();
    let e = x.broadcast_sub(&largest)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}
