//! When a site is visited, and what becomes of visits that come to nothing.

use serde::{Deserialize, Serialize};

use super::InvokeId;

/// Which visit to a site: for which inputs, and at which step of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct At {
    /// For which inputs.
    pub invoke: InvokeId,
    /// At which step; 0 is the inputs' own pass.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step: u32,
    /// What becomes of it where the run ends before this step.
    #[serde(default, skip_serializing_if = "Unreached::is_refused")]
    pub unreached: Unreached,
}

impl At {
    /// The first pass of an invoke.
    pub fn first(invoke: InvokeId) -> Self {
        At { invoke, step: 0, unreached: Unreached::Refuse }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.step {
            0 => write!(f, "{}", self.invoke.0),
            step => write!(f, "{} at step {step}", self.invoke.0),
        }
    }
}

fn is_zero(step: &u32) -> bool {
    *step == 0
}

/// What becomes of the use of a step that never happens, because the run ends before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreached {
    /// The trace fails: the step was named.
    #[default]
    Refuse,
    /// It is left out, and a line on standard error says so: a number of steps was named.
    Note,
    /// It is left out: all steps were meant that there are.
    Drop,
}

impl Unreached {
    fn is_refused(&self) -> bool {
        *self == Unreached::Refuse
    }
}

/// What becomes of an edit that nothing depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unused {
    /// The trace is refused: most likely it is a mistake.
    #[default]
    Refuse,
    /// It is done all the same.
    Keep,
    /// It is left out, if others of the same line in the program reach something: at some points of a sweep an edit reaches nothing.
    Sweep,
    /// It is left out: edits that belong to a view of the model are there for other traces.
    Drop,
}

impl Unused {
    pub(super) fn is_refused(&self) -> bool {
        *self == Unused::Refuse
    }
}
