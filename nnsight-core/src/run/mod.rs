//! Running a graph inside forward passes.

mod batch;
mod branch;
mod budget;
mod cumsum;
mod cutoff;
mod depth;
mod environment;
mod evaluate;
mod execute;
mod generate;
mod gradient;
mod hosting;
mod interleave;
mod part;
mod past;
mod random;
mod reduce;
mod repeat;
mod request;
mod rounding;
mod sample;
mod stages;
mod values;
mod watch;
mod whole;

pub use batch::TokenBatch;
pub use environment::Prompts;
pub use execute::{execute, explain, forward, prepare, share_prompts};
pub use generate::{Token, Vocabulary};
pub use hosting::Hosting;
pub use past::Past;
pub use request::Request;
pub use stages::Stages;
pub use watch::{Progress, Watch};
