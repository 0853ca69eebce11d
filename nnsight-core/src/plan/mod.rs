//! Between graph and execution: what is run, in which order, and what is refused.

mod build;
mod chains;
mod common;
mod components;
mod diverge;
mod explain;
mod gradient;
mod head;
mod merge;
mod order;
mod pack;
mod positions;
mod reach;
mod readers;
mod savings;
mod schedule;
mod sets;
mod share;
mod unreachable;
mod waves;

pub(crate) use common::common;
pub use explain::{Explanation, PlannedBatch, PlannedLayer};
pub use head::Window;
pub(crate) use head::{counted_from_the_end, without_what_is_behind};
pub use savings::{Budget, Plan};
pub use schedule::{Check, Circumstances, Schedule, Share, Visit, Wave};
