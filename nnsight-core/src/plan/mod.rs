//! Between graph and execution: what is run, in which order, and what is refused.

mod batch_calls;
mod batches;
mod build;
mod components;
mod cse;
mod diverge;
mod explain;
mod fuse;
mod gradient;
mod liveness;
mod lm_head;
mod options;
mod order;
mod pack;
mod passes;
mod positions;
mod readers;
mod sets;
mod share;
mod unreachable;

pub(crate) use cse::cse;
pub use explain::{Explanation, PlannedBatch, PlannedLayer};
pub(crate) use lm_head::{counted_from_the_end, without_what_is_behind};
pub use options::{Budget, Optimizations};
pub use passes::{Check, PassBatch, Plan, PlanContext, Share, SiteVisit};

pub use crate::batch::Window;
