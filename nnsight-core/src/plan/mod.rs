//! Between graph and execution: what is run, in which order, and what is refused.

mod assemble;
mod batch_calls;
mod batches;
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
mod schedule;
mod sets;
mod share;
mod unreachable;

pub use explain::{Explanation, PlannedBatch, PlannedLayer};
pub(crate) use lm_head::without_what_is_behind;
pub use options::{Budget, Optimizations};
pub use passes::{Planned, plan};
pub use schedule::{Check, PassBatch, Plan, PlanContext, Share, SiteVisit};

pub use crate::batch::Window;
