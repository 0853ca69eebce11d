//! Running a graph inside forward passes.

mod batch;
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
mod kv_cache;
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

pub use batch::TokenBatch;
pub(crate) use compute::compute;
pub use environment::Prompts;
pub use execute::{execute, explain, forward, prepare, share_prompts};
pub use generate::Vocabulary;
pub use kv_cache::KvCache;
#[allow(deprecated)]
pub use kv_cache::Past;
pub use request::Request;
pub use stages::Stages;
pub use with_attachments::WithAttachments;

#[allow(deprecated)]
pub use crate::observer::Watch;
pub use crate::observer::{Observer, Progress, Token};
