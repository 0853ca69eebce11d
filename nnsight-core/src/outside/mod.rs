//! Arithmetic on what a trace gave back, by the same rules as in one.

mod computed;
mod operators;
mod reduce;

pub use operators::TensorOperand;
