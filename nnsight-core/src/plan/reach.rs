//! What is needed: which nodes a saved value depends on. An edit that none depends on is refused.

use std::collections::HashMap;

use super::order::Order;
use super::positions::{self, Positions};
use crate::graph::{Graph, InvokeId, NodeId, Op, Region};
use crate::module::SiteTable;
use crate::{Error, Result};

/// Marks the nodes that are needed.
///
/// # Errors
/// [`Error::NoEffect`] for an edit that nothing needs, [`Error::OutsideBranch`] for a value of a branch that is used outside of it.
pub(super) fn needed(graph: &Graph, table: &SiteTable, order: &Order, lengths: &[Option<usize>]) -> Result<Vec<bool>> {
    check_branches(graph)?;
    let mut sweep = Sweep {
        graph,
        table,
        order,
        lengths,
        needed: vec![false; graph.nodes.len()],
        read: vec![Positions::default(); graph.nodes.len()],
        readers: vec![Vec::new(); graph.invokes.len()],
        replaced: HashMap::new(),
    };
    for &save in &graph.saves {
        sweep.needed[save.index()] = true;
        sweep.read[save.index()].add(Positions::All);
    }
    let mut latest_first = graph.iter().map(|(id, _)| id).collect::<Vec<_>>();
    latest_first.sort_by_key(|id| std::cmp::Reverse((order.moments[id.index()], *id)));
    for id in latest_first {
        sweep.visit(id)?;
    }
    Ok(sweep.needed)
}

struct Sweep<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    order: &'a Order,
    /// The number of tokens of each invoke, where all its prompts have the same.
    lengths: &'a [Option<usize>],
    needed: Vec<bool>,
    /// Which positions of each reading are needed.
    read: Vec<Positions>,
    /// For each invoke the readings that come later and are needed, as far as an edit from here can reach them.
    readers: Vec<Vec<(usize, NodeId)>>,
    /// The parts of sites that a later edit replaces before anybody reads them, with that edit.
    replaced: HashMap<(InvokeId, usize), Vec<(Region, NodeId)>>,
}

impl Sweep<'_> {
    fn visit(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Set { invoke, site, region, effect } => {
                let position = self.order.positions[site.index()];
                match self.why_without_effect(*invoke, position, region) {
                    Some(reason) if !effect => {
                        return Err(Error::NoEffect { site: self.graph.site(*site).to_string(), reason, source_line: self.graph.source(id) });
                    }
                    _ => self.needed[id.index()] = true,
                }
                if node.guards.is_empty() {
                    self.replaced.entry((*invoke, position)).or_default().push((region.clone(), id));
                    if region.is_whole() && self.table.sites()[position].is_bottleneck {
                        self.readers[invoke.index()].clear();
                    }
                }
            }
            Op::Log { .. } => self.needed[id.index()] = true,
            _ => {}
        }
        if !self.needed[id.index()] {
            return Ok(());
        }
        if let Op::Get { invoke, site } = node.op {
            let position = self.order.positions[site.index()];
            self.readers[invoke.index()].push((position, id));
            self.replaced.remove(&(invoke, position));
        }
        for &arg in node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)) {
            self.needed[arg.index()] = true;
            let taken = self.positions_taken(id, arg);
            self.read[arg.index()].add(taken);
        }
        Ok(())
    }

    /// Which positions of a reading its user needs.
    fn positions_taken(&self, user: NodeId, arg: NodeId) -> Positions {
        match (&self.graph.node(user).op, &self.graph.node(arg).op) {
            (Op::Slice(region), Op::Get { invoke, site }) => {
                let facts = &self.table.sites()[self.order.positions[site.index()]].facts;
                positions::of(region, facts, self.lengths.get(invoke.index()).copied().flatten())
            }
            _ => Positions::All,
        }
    }

    fn why_without_effect(&self, invoke: InvokeId, site: usize, region: &Region) -> Option<String> {
        let later = self.replaced.get(&(invoke, site));
        if let Some((_, by)) = later.into_iter().flatten().find(|(other, _)| other.is_whole() || other == region) {
            return Some(format!("{} replaces it before anything reads it", self.graph.source(*by)));
        }
        let readers = &self.readers[invoke.index()];
        let Some((first, _)) = readers.first() else {
            return Some("nothing that is saved is read after it".to_string());
        };
        let path = |site: usize| &self.table.sites()[site].path;
        let later = readers.iter().filter(|&&(reader, _)| reader == site || self.table.reaches(site, reader)).collect::<Vec<_>>();
        if later.is_empty() {
            return Some(format!("`{}` does not depend on it", path(*first)));
        }
        let written = positions::of(region, &self.table.sites()[site].facts, self.lengths.get(invoke.index()).copied().flatten());
        let seen = |&&(reader, id): &&(usize, NodeId)| written.reaches(&self.read[id.index()], self.table.mixes_between(site, reader));
        match later.iter().any(seen) {
            true => None,
            false => Some(format!(
                "it writes {written}, and of `{}` {} is read, which does not depend on that",
                path(later[0].0),
                self.read[later[0].1.index()]
            )),
        }
    }
}

/// Checks that what a branch computes is used in that branch only, or by the `Choose` that joins the branches.
fn check_branches(graph: &Graph) -> Result<()> {
    for (id, node) in graph.iter() {
        if matches!(node.op, Op::Choose) {
            continue;
        }
        for &arg in &node.args {
            let inside = &graph.node(arg).guards;
            if !inside.is_empty() && !node.guards.starts_with(inside) {
                return Err(Error::OutsideBranch { source_line: graph.source(id) });
            }
        }
    }
    for &save in &graph.saves {
        if !graph.node(save).guards.is_empty() {
            return Err(Error::OutsideBranch { source_line: graph.source(save) });
        }
    }
    Ok(())
}
