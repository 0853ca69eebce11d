//! What is done entry by entry.

use candle_core::{Result, Tensor};

use super::cpu;

/// `a + b`; where nobody else holds `a` and `own` says so, in its place.
///
/// # Errors
/// Where the shapes differ.
pub fn add(a: &Tensor, b: &Tensor, own: bool) -> Result<Tensor> {
    if cpu::takes(&[a, b]) { cpu::add(a, b, own) } else { a + b }
}

/// `silu(gate) * up`; where nobody else holds `gate` and `own` says so, in its place.
///
/// # Errors
/// Where the shapes differ.
pub fn silu_mul(gate: &Tensor, up: &Tensor, own: bool) -> Result<Tensor> {
    if cpu::takes(&[gate, up]) { cpu::silu_mul(gate, up, own) } else { gate.silu()?.mul(up) }
}
