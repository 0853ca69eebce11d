//! What is done entry by entry. Of numbers of 16 bits and of `f32` it is `f32`.

use candle_core::{Result, Tensor};
use nnsight_core::kernels::{is_half, widen};

use super::cpu;

/// `a + b`; where nobody else holds `a` and `own` says so, in its place.
///
/// # Errors
/// Where the shapes differ.
pub fn add(a: &Tensor, b: &Tensor, own: bool) -> Result<Tensor> {
    if cpu::takes(&[a, b]) {
        return cpu::add(a, b, own);
    }
    if a.dtype() == b.dtype() { a + b } else { widen(a)? + widen(b)? }
}

/// `a * b`
///
/// # Errors
/// Where the shapes differ.
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype() == b.dtype() { a * b } else { widen(a)? * widen(b)? }
}

/// `silu(gate) * up`; where nobody else holds `gate` and `own` says so, in its place.
///
/// # Errors
/// Where the shapes differ.
pub fn silu_mul(gate: &Tensor, up: &Tensor, own: bool) -> Result<Tensor> {
    if is_half(gate.dtype()) || is_half(up.dtype()) {
        return silu_mul(&widen(gate)?, &widen(up)?, true)?.to_dtype(gate.dtype());
    }
    if cpu::takes(&[gate, up]) { cpu::silu_mul(gate, up, own) } else { gate.silu()?.mul(up) }
}

/// `x * sigmoid(x)`, rounded once.
///
/// # Errors
/// Where a computation fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    widen(x)?.silu()?.to_dtype(x.dtype())
}

/// GELU in its tanh approximation, rounded once.
///
/// # Errors
/// Where a computation fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    widen(x)?.gelu()?.to_dtype(x.dtype())
}
