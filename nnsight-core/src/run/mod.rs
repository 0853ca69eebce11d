//! Running a graph inside a forward pass.

mod batch;
mod evaluate;
mod execute;
mod interleave;
mod stages;

pub use batch::TokenBatch;
pub use execute::{Prompts, execute, forward};
pub use stages::Stages;
