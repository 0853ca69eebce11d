//! Everything that can go wrong between a trace and its result, and how it is shown.

mod advice;
mod brief;
mod code;
mod kinds;
mod names;
mod place;
mod report;
mod source;

pub use brief::{brief, first_line};
pub use kinds::{Error, InputProblem, Result};
pub(crate) use names::{closest, did_you_mean, shortened};
pub(crate) use place::at;
pub use report::Report;
pub use source::Source;
