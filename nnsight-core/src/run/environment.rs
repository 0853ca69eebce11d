//! What the sites of a model hold for given prompts.

use crate::graph::{At, Axis, Environment, Facts, InvokeId};
use crate::module::SiteTable;

/// What inference needs to know of a model and its prompts.
pub struct Prompts<'a> {
    /// The model's sites.
    pub table: &'a SiteTable,
    /// For every invoke the numbers of tokens of its prompts, where they are known.
    pub lengths: &'a [Vec<Option<usize>>],
}

impl Environment for Prompts<'_> {
    fn site(&self, at: At, path: &str) -> Option<Facts> {
        let mut facts = self.table.sites()[self.table.position(path)?].facts.clone();
        let lengths = self.lengths.get(at.invoke.index())?;
        let longest = lengths.iter().try_fold(None, |longest, length| Some(longest.max(Some((*length)?)))).flatten();
        let ragged = lengths.iter().any(|length| *length != longest);
        for axis in &mut facts.axes {
            let positions = matches!(axis.name.as_ref(), "Seq" | "Query");
            match (axis.name.as_ref(), at.step) {
                ("Batch", _) => axis.size = Some(lengths.len()),
                ("Key", step) => {
                    axis.size = longest.map(|longest| longest + step as usize);
                    axis.ragged = ragged;
                }
                (_, 0) if positions => {
                    axis.size = longest;
                    axis.ragged = ragged;
                }
                _ if positions => axis.size = Some(1),
                _ => {}
            }
        }
        Some(facts)
    }

    fn rows(&self, invoke: InvokeId) -> Option<usize> {
        self.lengths.get(invoke.index()).map(Vec::len)
    }

    fn module(&self, path: &str) -> Option<(Axis, Axis)> {
        self.table.module(path)?.pointwise.clone()
    }

    fn suggest(&self, path: &str) -> Option<String> {
        self.table.suggest(path)
    }
}
