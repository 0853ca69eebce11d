//! Element-wise operations one by one.

use candle_core::{Result, Tensor};

use crate::{Binary, Unary};

/// An operation on every entry.
///
/// # Shapes
/// The result has that of `x`.
///
/// # Errors
/// If it does not exist for the type of `x`.
pub fn unary(op: Unary, x: &Tensor) -> Result<Tensor> {
    match op {
        Unary::Neg => x.neg(),
        Unary::Exp => x.exp(),
        Unary::Ln => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Sqr => x.sqr(),
        Unary::Abs => x.abs(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
        Unary::Gelu => x.gelu(),
        Unary::Silu => x.silu(),
        Unary::Relu => x.relu(),
        Unary::Recip => x.recip(),
        Unary::Powf(exponent) => x.powf(exponent),
        Unary::Clamp(low, high) => x.clamp(low, high),
    }
}

/// Arithmetic on two tensors.
///
/// # Shapes
/// `a` and `b` broadcast to the result.
///
/// # Errors
/// If they do not broadcast, or their types differ.
pub fn binary(op: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match op {
        Binary::Add => a.broadcast_add(b),
        Binary::Sub => a.broadcast_sub(b),
        Binary::Mul => a.broadcast_mul(b),
        Binary::Div => a.broadcast_div(b),
        Binary::Maximum => a.broadcast_maximum(b),
        Binary::Minimum => a.broadcast_minimum(b),
    }
}
