//! Between graph and execution: what is run, in which order, and what is refused.

mod build;
mod chains;
mod common;
mod explain;
mod gradient;
mod head;
mod merge;
mod order;
mod positions;
mod reach;
mod savings;
mod schedule;
mod share;

pub(crate) use common::common;
pub use explain::{Explanation, PlannedBatch, PlannedLayer};
pub use head::Window;
pub(crate) use head::{counted_from_the_end, without_what_is_behind};
pub use savings::{Budget, Plan};
pub use schedule::{Check, Circumstances, Schedule, Share, Visit, Wave};
