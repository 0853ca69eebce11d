//! How a run goes on after its first pass, as data.

use serde::{Deserialize, Serialize};

use super::{Axis, KindTag};

/// How a run goes on after its first pass, step after step: by words that are chosen one after the other, by the times of a diffusion schedule. The
/// model's kind knows how; here it is known how many steps there are at most, and what comes out at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rollout {
    /// What it is called, by which a kind of model knows it.
    pub kind: String,
    /// How many steps there are at most. The first is the inputs' own pass, step 0.
    pub steps: usize,
    /// What comes out at the end. Along positions it has at most one entry for each step.
    pub output: Output,
    /// How each step follows from the one before.
    pub settings: serde_json::Value,
}

/// What comes out of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Output {
    /// What its entries are.
    pub kind: KindTag,
    /// Its axes, of which one has the rows of the batch.
    pub axes: Vec<Axis>,
}

impl Rollout {
    /// Entries and bytes of its settings, and of the axes of what comes out.
    pub(crate) fn size(&self) -> usize {
        super::input::size(&self.settings) + self.kind.len() + self.output.axes.iter().map(|axis| axis.name.len()).sum::<usize>()
    }
}

impl std::fmt::Display for Rollout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.steps == 1 { "" } else { "s" };
        write!(f, "{} step{plural} of {} {}", self.steps, self.kind, self.settings)
    }
}
