//! What inference finds.

use std::collections::HashMap;

use super::cost::Cost;
use super::{Facts, NodeId};

/// What is known of the values of a graph, or of the body of a loop, whose parameters come first.
#[derive(Clone, Debug, Default)]
pub struct Inferred {
    /// The facts of every value.
    pub facts: Vec<Facts>,
    /// What each costs.
    pub(crate) costs: Vec<Cost>,
    /// What is known of the bodies of loops.
    pub(crate) bodies: HashMap<NodeId, Inferred>,
}

impl Inferred {
    /// What the nodes after the parameters cost in one round: work, rounds, and bytes that are held until it ends.
    pub(crate) fn round(&self, parameters: usize) -> (usize, usize, usize) {
        let inner = self.costs.get(parameters..).unwrap_or_default();
        let sum = |of: fn(&Cost) -> usize| inner.iter().fold(0, |sum: usize, cost| sum.saturating_add(of(cost)));
        let beside = inner.iter().map(|cost| cost.beside).max().unwrap_or(0);
        (sum(|cost| cost.work), sum(|cost| cost.rounds), sum(|cost| cost.bytes).saturating_add(beside))
    }

    pub(super) fn push(&mut self, id: NodeId, facts: Facts, cost: Cost, body: Option<Inferred>) {
        self.facts.push(facts);
        self.costs.push(cost);
        self.bodies.extend(body.map(|body| (id, body)));
    }
}
