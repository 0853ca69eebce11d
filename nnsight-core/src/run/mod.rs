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
mod gradient;
mod inputs;
mod interleave;
mod loops;
mod part;
mod random;
mod reduce;
mod request;
mod rounding;
mod rows;
mod stages;
mod state;
mod values;
mod whole;
mod with_attachments;

pub(crate) use compute::compute;
pub use environment::Surroundings;
pub use execute::{execute, explain, forward, prepare, share_inputs};
pub use inputs::{FirstPass, InputId, Inputs, RolledOut, Stepper, Write};
pub use request::Request;
pub use stages::{StagedModel, Stages};
pub use state::{AnyState, State};
pub use with_attachments::WithAttachments;

#[allow(deprecated)]
pub use crate::observer::Watch;
pub use crate::observer::{Emitted, EmittedValue, Note, Observer, Progress};
