//! A part of a tensor: one entry or a range along some of its axes.

pub use nnsight_kernels::Span;
use serde::{Deserialize, Serialize};

/// Entries `start..end` of an axis; negative numbers count from the end, as in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// Which axis of the whole tensor.
    pub axis: u8,
    /// The first entry.
    pub start: i64,
    /// The entry after the last, or `None` for all to the end. For a single entry it is not looked at.
    pub end: Option<i64>,
    /// Whether this is one entry, so that the axis is gone from the part.
    pub single: bool,
}

impl Step {
    /// The entries meant on an axis of `size` entries, or `None` where they lie outside.
    pub fn resolve(&self, size: usize) -> Option<Span> {
        let size = i64::try_from(size).ok()?;
        let from_end = |index: i64| if index < 0 { index.checked_add(size) } else { Some(index) };
        let start = from_end(self.start)?;
        let end = match (self.single, self.end) {
            (true, _) => start.checked_add(1)?,
            (false, None) => size,
            (false, Some(end)) => from_end(end)?,
        };
        let inside = 0 <= start && start < end && end <= size;
        inside.then(|| Span { start: start as usize, len: (end - start) as usize })
    }

    /// Whether the entries are counted from the first one, and so differ between prompts of different lengths.
    pub fn counts_from_start(&self) -> bool {
        self.start >= 0 || self.end.is_some_and(|end| end >= 0) && !self.single
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.single, self.end) {
            (true, _) => write!(f, "{}", self.start),
            (false, Some(end)) => write!(f, "{}..{end}", self.start),
            (false, None) => write!(f, "{}..", self.start),
        }
    }
}

/// A part of a tensor: the steps are taken one after the other. No step means all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Region(pub Vec<Step>);

impl Region {
    /// A part of this part, in steps on the whole.
    pub(crate) fn then(&self, inner: &Region) -> Region {
        // Axes that are gone from the part are not counted in it.
        let outer_axis = |axis: u8| {
            let is_there = |axis: &u8| !self.0.iter().any(|step| step.single && step.axis == *axis);
            (0..u8::MAX).filter(is_there).nth(axis as usize).unwrap_or(axis)
        };
        let inner = inner.0.iter().map(|step| Step { axis: outer_axis(step.axis), ..*step });
        Region(self.0.iter().copied().chain(inner).collect())
    }

    /// Whether it is the whole tensor.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_whole() {
            return Ok(());
        }
        let steps = self.0.iter().map(|step| format!("{}: {step}", step.axis)).collect::<Vec<_>>();
        write!(f, "[{}]", steps.join(", "))
    }
}
