//! Axes and facts: what is known of a value before anything runs.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{AxisRole, KindTag};

/// A named axis, with its size if that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Axis {
    /// The dimension's name.
    pub name: Cow<'static, str>,
    /// The number of entries.
    pub size: Option<usize>,
    /// Whether prompts of different lengths are side by side along it, the shorter ones padded on the left.
    pub ragged: bool,
    /// The number of entries of the shortest prompt, if it is ragged and that is known: no row has an entry further from the end.
    pub shortest: Option<usize>,
    /// What the entries are to whatever runs a model.
    pub role: AxisRole,
}

impl Axis {
    /// An axis of equal-length entries, of which the name is known only.
    pub fn new(name: impl Into<Cow<'static, str>>, size: Option<usize>) -> Self {
        let name = name.into();
        Axis { role: AxisRole::of_name(&name), name, size, ragged: false, shortest: None }
    }
}

/// An axis as it is written: with its role if the name does not say it.
#[derive(Serialize, Deserialize)]
struct Written {
    name: Cow<'static, str>,
    size: Option<usize>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ragged: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shortest: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<AxisRole>,
}

impl From<Written> for Axis {
    fn from(Written { name, size, ragged, shortest, role }: Written) -> Self {
        Axis { role: role.unwrap_or_else(|| AxisRole::of_name(&name)), name, size, ragged, shortest }
    }
}

impl From<Axis> for Written {
    fn from(Axis { name, size, ragged, shortest, role }: Axis) -> Self {
        let role = Some(role).filter(|role| *role != AxisRole::of_name(&name));
        Written { name, size, ragged, shortest, role }
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

    /// The first axis of a role.
    pub fn along(&self, is: impl Fn(AxisRole) -> bool) -> Option<usize> {
        self.axes.iter().position(|axis| is(axis.role))
    }

    /// The sizes, if all are known.
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
