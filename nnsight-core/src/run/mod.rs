//! Running a graph inside forward passes.

mod batch;
mod branch;
mod compute;
mod cutoff;
mod environment;
mod evaluate;
mod execute;
mod generate;
mod gradient;
mod hosting;
mod interleave;
mod part;
mod past;
mod repeat;
mod request;
mod rows;
mod sample;
mod stages;
mod values;
mod watch;

pub use batch::TokenBatch;
pub(crate) use compute::compute;
pub use environment::Prompts;
pub use execute::{execute, explain, forward, prepare, share_prompts};
pub use generate::{Token, Vocabulary};
pub use hosting::Hosting;
pub use past::Past;
pub use request::Request;
pub use stages::Stages;
pub use watch::{Progress, Watch};
