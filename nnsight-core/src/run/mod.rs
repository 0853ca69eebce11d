//! Running a graph inside a forward pass.

mod batch;
mod evaluate;
mod execute;
mod interleave;

pub use batch::TokenBatch;
pub use execute::{Prompts, Stages, execute, forward};
