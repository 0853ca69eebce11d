//! Activations and the softmax.

use candle_core::{D, Result, Tensor};

/// `silu(gate) * up`
///
/// # Shapes
/// Both the same, as the result.
///
/// # Errors
/// If the shapes or types differ.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()?.mul(up)
}

/// `e^x / sum(e^x)` along the innermost axis.
///
/// # Shapes
/// The result has that of `x`.
///
/// # Errors
/// If `x` has no axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    // The largest entry cancels out: no gradient goes through it.
    let largest = x.max_keepdim(D::Minus1)?.detach();
    let e = x.broadcast_sub(&largest)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}
