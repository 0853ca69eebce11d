//! Axes and facts: what is known of a value before anything runs.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::graph::KindTag;

/// A named axis, with its size where that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// The dimension's name.
    pub name: Cow<'static, str>,
    /// The number of entries.
    pub size: Option<usize>,
    /// Whether prompts of different lengths stand side by side along it, the shorter ones padded on the left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ragged: bool,
    /// The number of entries of the shortest prompt, where it is ragged and that is known: no row has an entry further from the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortest: Option<usize>,
}

impl Axis {
    /// An axis of equal-length entries.
    pub fn new(name: impl Into<Cow<'static, str>>, size: Option<usize>) -> Self {
        Axis { name: name.into(), size, ragged: false, shortest: None }
    }
}

impl std::fmt::Display for Axis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.size {
            Some(size) => write!(f, "{} = {size}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is known of a value before anything runs: its kind, and its axes from the outermost to the innermost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the entries are.
    pub kind: KindTag,
    /// The axes.
    pub axes: Vec<Axis>,
}

impl Facts {
    /// A single number.
    pub fn scalar(kind: KindTag) -> Self {
        Facts { kind, axes: Vec::new() }
    }

    /// The sizes, where all are known.
    pub fn sizes(&self) -> Option<Vec<usize>> {
        self.axes.iter().map(|axis| axis.size).collect()
    }
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let axes = self.axes.iter().map(ToString::to_string).collect::<Vec<_>>();
        write!(f, "({})", axes.join(", "))?;
        match self.kind {
            KindTag::Float => Ok(()),
            kind => write!(f, " {}", kind.name()),
        }
    }
}
