//! Running a graph inside forward passes.

mod branch;
mod budget;
mod compute;
mod cumsum;
mod cutoff;
mod depth;
mod environment;
mod evaluate;
mod execute;
mod generate;
mod gradient;
mod interleave;
mod loops;
mod part;
mod random;
mod reduce;
mod request;
mod rounding;
mod rows;
mod sample;
mod stages;
mod values;
mod whole;
mod with_attachments;

pub(crate) use compute::compute;
pub use environment::Prompts;
pub use execute::{execute, explain, forward, prepare, share_prompts};
pub use generate::Vocabulary;
pub use request::Request;
pub use stages::Stages;
pub use with_attachments::WithAttachments;

#[allow(deprecated)]
pub use crate::batch::Past;
pub use crate::batch::{KvCache, TokenBatch};
#[allow(deprecated)]
pub use crate::observer::Watch;
pub use crate::observer::{Note, Observer, Progress, Token};
