//! The loops of the fused kernels on the CPU, on slices of `f32`: each a single pass over memory, spread over the threads if that pays.

pub mod attention;
mod columns;
mod dequantize;
mod exp;
mod filled;
pub mod matmul;
pub mod matmul_grad_input;
mod microkernel;
pub mod pairs;
pub mod panels;
pub mod patch;
mod prefetch;
pub mod rows;
mod storage;

pub use storage::{entries, entries_of, from_first};

/// Entries below which a second thread costs more than it brings.
const SMALL: usize = 1 << 14;

/// Entries that are computed by one task.
const PART: usize = SMALL / 4;
