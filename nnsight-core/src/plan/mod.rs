//! Between graph and execution: what is run, in which order, and what is refused.

mod gradient;
mod head;
mod order;
mod positions;
mod reach;
mod schedule;
mod share;

pub use schedule::{Circumstances, Schedule, Share, Visit, Wave};
