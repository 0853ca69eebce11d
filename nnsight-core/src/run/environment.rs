//! What the sites of a model hold for given inputs.

use crate::graph::{At, Axis, AxisRole, Environment, Facts, InvokeId};
use candle_core::DType;

use crate::sites::SiteTable;

/// What inference needs to know of a model and its inputs.
pub struct Surroundings<'a> {
    /// The model's sites.
    pub table: &'a SiteTable,
    /// Of every invoke's inputs.
    lengths: Vec<Lengths>,
    /// The type in which the model computes.
    dtype: DType,
}

/// The numbers of positions of some inputs.
struct Lengths {
    inputs: usize,
    /// That of the longest, if all are known.
    longest: Option<usize>,
    /// That of the shortest, if another is longer.
    shortest: Option<usize>,
    /// Whether one has another.
    ragged: bool,
}

impl<'a> Surroundings<'a> {
    /// What is known of a model's sites, of the type in which it computes, and for every invoke of the numbers of positions of its inputs.
    pub fn new(table: &'a SiteTable, lengths: &[Vec<Option<usize>>], dtype: DType) -> Self {
        let of = |lengths: &Vec<Option<usize>>| {
            let known = lengths.iter().copied().collect::<Option<Vec<_>>>();
            let longest = known.and_then(|lengths| lengths.into_iter().max());
            let ragged = lengths.iter().any(|length| *length != longest);
            let shortest = lengths.iter().copied().flatten().min().filter(|_| ragged);
            Lengths { inputs: lengths.len(), longest, shortest, ragged }
        };
        Surroundings { table, lengths: lengths.iter().map(of).collect(), dtype }
    }
}

impl Environment for Surroundings<'_> {
    fn site(&self, at: At, path: &str) -> Option<Facts> {
        let mut facts = self.table.sites()[self.table.position(path)?].facts.clone();
        let &Lengths { inputs, longest, shortest, ragged } = self.lengths.get(at.invoke.index())?;
        for axis in &mut facts.axes {
            match (axis.role, at.step) {
                (AxisRole::Row, _) => axis.size = Some(inputs),
                (AxisRole::Key, step) => {
                    axis.size = longest.map(|longest| longest + step as usize);
                    (axis.ragged, axis.shortest) = (ragged, shortest.map(|shortest| shortest + step as usize));
                }
                (AxisRole::Position | AxisRole::Query, 0) => {
                    axis.size = longest;
                    (axis.ragged, axis.shortest) = (ragged, shortest);
                }
                (AxisRole::Position | AxisRole::Query, _) => axis.size = Some(1),
                _ => {}
            }
        }
        Some(facts)
    }

    fn rows(&self, invoke: InvokeId) -> Option<usize> {
        self.lengths.get(invoke.index()).map(|lengths| lengths.inputs)
    }

    fn module(&self, path: &str) -> Option<(Axis, Axis)> {
        self.table.module(path)?.pointwise.clone()
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn suggest(&self, path: &str) -> Option<String> {
        self.table.suggest(path)
    }
}
