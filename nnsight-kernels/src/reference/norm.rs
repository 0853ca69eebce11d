//! Normalisations along the innermost axis.

use candle_core::{D, Result, Tensor};

/// `x / sqrt(mean(x^2) + epsilon) * weight` (Zhang and Sennrich 2019).
///
/// # Shapes
/// `weight`: `(Hidden,)`, with the innermost axis of `x`; the result has the shape of `x`.
///
/// # Errors
/// If the weight has another size.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    x.broadcast_div(&scale)?.broadcast_mul(weight)
}

/// `(x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias` (Ba et al. 2016).
///
/// # Shapes
/// `weight`, `bias`: `(Hidden,)`, with the innermost axis of `x`; the result has the shape of `x`.
///
/// # Errors
/// If the weight or the bias has another size.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let scale = (centered.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    centered.broadcast_div(&scale)?.broadcast_mul(weight)?.broadcast_add(bias)
}
