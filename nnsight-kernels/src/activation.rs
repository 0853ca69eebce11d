//! Activations of one value, computed in `f32` and rounded once.

use candle_core::{Result, Tensor};

use crate::upcast;

/// `x * sigmoid(x)`
///
/// # Shapes
/// The result has that of `x`.
///
/// # Errors
/// If the device fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    upcast(x)?.silu()?.to_dtype(x.dtype())
}

/// GELU in its tanh approximation.
///
/// # Shapes
/// The result has that of `x`.
///
/// # Errors
/// If the device fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    upcast(x)?.gelu()?.to_dtype(x.dtype())
}
