//! Which runs are in one batch: as many as the budget has room for, of about the same length.

use std::collections::{HashMap, HashSet};

use super::sets::Sets;
use crate::graph::{Comparable, Graph, InvokeId};
use crate::sites::SiteTable;

/// How many positions of padding cost less than another pass, which reads all weights again. A batch may have more where they are a quarter of it.
const PADDING: usize = 32;

/// How many positions fit into so many bytes: of each there are about sixteen values as wide as the residual stream at a time.
pub(super) fn positions_within(bytes: usize, table: &SiteTable) -> usize {
    (bytes / (16 * table.widest() * size_of::<f32>())).max(1)
}

pub(super) struct Packing<'a> {
    pub graph: &'a Graph,
    /// A number for each run, equal for those of one batch of which one needs what another holds.
    pub linked: &'a [usize],
    /// The number of tokens of each run's longest prompt.
    pub longest: &'a [usize],
    /// How many positions a batch has at most.
    pub limit: usize,
}

impl Packing<'_> {
    /// The inputs of a run that may have something in common with others: those of one part, which is no tensor. How several parts act together, an
    /// engine does not know.
    pub fn inputs(&self, invoke: InvokeId) -> Option<Vec<Comparable<'_>>> {
        let content = &self.graph.invokes[invoke.index()];
        if content.all_inputs || content.rollout.is_some() || content.inputs.is_empty() {
            return None;
        }
        content.inputs.iter().map(|input| input.comparable().filter(|_| input.parts().len() == 1)).collect()
    }

    /// How many inputs a run has.
    pub fn count(&self, invoke: InvokeId) -> usize {
        self.graph.invokes[invoke.index()].inputs.len()
    }

    /// The number of tokens of its longest prompt.
    pub fn longest(&self, invoke: InvokeId) -> usize {
        self.longest.get(invoke.index()).copied().unwrap_or(0)
    }

    /// Runs in batches that fit into the budget: those that wait for each other in one, and beside each other those of about the same length.
    /// Where they share, those on one prompt belong together, and take no more room than one of them.
    pub fn pieces(&self, members: Vec<InvokeId>, shares: bool) -> Vec<Vec<InvokeId>> {
        let apart = members.iter().all(|invoke| self.longest(*invoke) > 0 && !self.graph.invokes[invoke.index()].all_inputs);
        if members.len() < 2 || !apart || self.limit == usize::MAX {
            return vec![members];
        }
        let mut groups = self.groups(&members, shares);
        let longest = |group: &[InvokeId]| group.iter().map(|invoke| self.longest(*invoke)).max().unwrap_or(0);
        groups.sort_by_key(|group| longest(group));
        let rows = |group: &[InvokeId]| {
            let different = group.iter().map(|invoke| self.inputs(*invoke)).collect::<Option<HashSet<_>>>();
            match different.filter(|different| shares && different.len() < group.len()) {
                Some(different) => different.iter().map(Vec::len).sum::<usize>(),
                None => group.iter().map(|invoke| self.count(*invoke)).sum(),
            }
        };
        let mut batches: Vec<Vec<InvokeId>> = Vec::new();
        let (mut all_rows, mut positions) = (0, 0);
        for group in groups {
            let (own_rows, longest) = (rows(&group), longest(&group));
            let own_positions = own_rows * longest;
            let padded = (all_rows + own_rows) * longest;
            let padding = padded - positions - own_positions;
            let fits = padded <= self.limit && (padding <= PADDING || 4 * padding <= padded);
            match batches.last_mut().filter(|_| fits) {
                Some(batch) => {
                    batch.extend(group);
                    (all_rows, positions) = (all_rows + own_rows, positions + own_positions);
                }
                None => {
                    batches.push(group);
                    (all_rows, positions) = (own_rows, own_positions);
                }
            }
        }
        batches.iter_mut().for_each(|batch| batch.sort_unstable());
        batches
    }

    /// Runs in groups, of which none needs what another holds; if they share, none has a prompt of another.
    fn groups(&self, members: &[InvokeId], shares: bool) -> Vec<Vec<InvokeId>> {
        let mut sets = Sets::new(members.len());
        let mut first_linked: HashMap<usize, usize> = HashMap::new();
        let mut first_on: HashMap<Vec<Comparable<'_>>, usize> = HashMap::new();
        for (index, &invoke) in members.iter().enumerate() {
            sets.join(*first_linked.entry(self.linked[invoke.index()]).or_insert(index), index);
            if let Some(inputs) = self.inputs(invoke).filter(|_| shares) {
                sets.join(*first_on.entry(inputs).or_insert(index), index);
            }
        }
        let mut place_of: HashMap<usize, usize> = HashMap::new();
        let mut groups: Vec<Vec<InvokeId>> = Vec::new();
        for (index, &invoke) in members.iter().enumerate() {
            let place = *place_of.entry(sets.root(index)).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(invoke),
                None => groups.push(vec![invoke]),
            }
        }
        groups
    }
}
