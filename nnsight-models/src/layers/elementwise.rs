//! What is done entry by entry.

use candle_core::{Result, Tensor};

use super::cpu;

/// `a + b`.
///
/// # Errors
/// Where the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if cpu::takes(&[a, b]) { cpu::add(a, b) } else { a + b }
}

/// `silu(gate) * up`.
///
/// # Errors
/// Where the shapes differ.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if cpu::takes(&[gate, up]) { cpu::silu_mul(gate, up) } else { gate.silu()?.mul(up) }
}
