//! What is needed: which nodes a saved value depends on. An edit that none depends on is refused.

use std::collections::{BTreeMap, HashMap};

use super::order::{Order, Time};
use super::positions::{self, Positions};
use super::schedule::Circumstances;
use crate::graph::{At, Graph, InvokeId, Node, NodeId, Op, Region, SiteId, SourceId, Unused};
use crate::module::SiteTable;
use crate::{Error, Result};

/// Marks the nodes that are needed.
///
/// # Errors
/// [`Error::NoEffect`] for an edit that nothing needs, [`Error::OutsideBranch`] for a value of a branch that is used outside of it,
/// [`Error::InsideSkipped`] for what touches the inside of a module that is not run.
pub(super) fn needed(graph: &Graph, table: &SiteTable, order: &Order, circumstances: Circumstances<'_>) -> Result<Reach> {
    check_branches(graph)?;
    check_skipped(graph, table, order)?;
    check_stopped(graph, order)?;
    let mut sweep = Sweep {
        graph,
        table,
        order,
        lengths: circumstances.lengths,
        needed: vec![false; graph.nodes.len()],
        read: vec![Positions::default(); graph.nodes.len()],
        readers: vec![Vec::new(); graph.invokes.len()],
        replaced: HashMap::new(),
        gradients: Vec::new(),
        without_effect: BTreeMap::new(),
    };
    for &save in &graph.saves {
        sweep.needed[save.index()] = true;
        sweep.read[save.index()].add(Positions::All);
    }
    for (invoke, readers) in graph.invokes.iter().zip(&mut sweep.readers) {
        if circumstances.streams && invoke.generation.is_some() {
            readers.push(Reader { time: Time::END, node: None });
        }
    }
    let mut latest_first = graph.iter().map(|(id, _)| id).collect::<Vec<_>>();
    latest_first.sort_by_key(|id| std::cmp::Reverse((order.moments[id.index()], *id)));
    for id in latest_first {
        sweep.visit(id)?;
    }
    for (line, (id, site, reason)) in sweep.without_effect {
        let edits = |node: &Node| matches!(node.op, Op::Set { .. } | Op::Skip { .. });
        if !graph
            .iter()
            .any(|(other, node)| edits(node) && graph.sources[node.source.index()] == graph.sources[line.index()] && sweep.needed[other.index()])
        {
            return Err(Error::NoEffect { site, reason, source_line: graph.source(id) });
        }
    }
    Ok(Reach { needed: sweep.needed, read: sweep.read })
}

/// What is needed.
pub(super) struct Reach {
    /// The nodes.
    pub needed: Vec<bool>,
    /// Which positions of each reading.
    pub read: Vec<Positions>,
}

/// Somebody who sees what the model holds at a moment.
#[derive(Clone, Copy)]
struct Reader {
    time: Time,
    /// The node, or `None` for whoever looks at the tokens as they come.
    node: Option<NodeId>,
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
    readers: Vec<Vec<Reader>>,
    /// The parts of sites that a later edit replaces before anybody reads them, with that edit.
    replaced: HashMap<(InvokeId, u32, usize), Vec<(Region, NodeId)>>,
    /// The gradients that are needed, as far as they come into being later: their losses.
    gradients: Vec<NodeId>,
    /// Of each line of a sweep an edit that reaches nothing, and why.
    without_effect: BTreeMap<SourceId, (NodeId, String, String)>,
}

impl Sweep<'_> {
    fn visit(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Set { at, site, region, unused } => self.edit(id, *at, self.order.positions[site.index()], region, *unused)?,
            Op::Skip { at, site, unused } => self.edit(id, *at, self.order.positions[site.index()], &Region::default(), *unused)?,
            Op::SetGrad => {
                if !self.gradients.contains(&node.args[1]) {
                    let reason = "no gradient that is saved comes into being after it".to_string();
                    return Err(Error::NoEffect { site: "the gradient".to_string(), reason, source_line: self.graph.source(id) });
                }
                self.needed[id.index()] = true;
            }
            Op::Log { .. } | Op::Stop { .. } => self.needed[id.index()] = true,
            _ => {}
        }
        if !self.needed[id.index()] {
            return Ok(());
        }
        match node.op {
            Op::Get { at, site } => {
                let position = self.order.positions[site.index()];
                self.readers[at.invoke.index()].push(Reader { time: self.order.moments[id.index()].time, node: Some(id) });
                let graph = self.graph;
                self.replaced.retain(|&(invoke, step, site), _| (step, site) != (at.step, position) || !graph.share_rows(invoke, at.invoke));
            }
            Op::Tokens { invoke } => self.readers[invoke.index()].push(Reader { time: Time::END, node: Some(id) }),
            Op::Grad => self.gradients.push(node.args[1]),
            _ => {}
        }
        for &arg in node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)) {
            self.needed[arg.index()] = true;
            let taken = self.positions_taken(id, arg);
            self.read[arg.index()].add(taken);
        }
        Ok(())
    }

    /// Looks at what an edit reaches.
    fn edit(&mut self, id: NodeId, at: At, position: usize, region: &Region, unused: Unused) -> Result<()> {
        match (self.why_without_effect(at, position, region), unused) {
            (None, _) | (Some(_), Unused::Keep) => self.needed[id.index()] = true,
            (Some(_), Unused::Drop) => return Ok(()),
            (Some(reason), Unused::Sweep) => {
                let site = self.table.sites()[position].path.clone();
                self.without_effect.entry(self.graph.node(id).source).or_insert((id, site, reason));
                return Ok(());
            }
            (Some(reason), Unused::Refuse) => {
                let site = self.table.sites()[position].path.clone();
                return Err(Error::NoEffect { site, reason, source_line: self.graph.source(id) });
            }
        }
        if self.graph.node(id).guards.is_empty() {
            self.replaced.entry((at.invoke, at.step, position)).or_default().push((region.clone(), id));
            // Later steps see what earlier layers held, through their keys and values.
            let once = self.graph.invokes[at.invoke.index()].generation.is_none();
            if once && region.is_whole() && self.table.sites()[position].is_bottleneck {
                match self.graph.invokes[at.invoke.index()].everything {
                    true => self.readers.iter_mut().for_each(Vec::clear),
                    false => self.readers[at.invoke.index()].clear(),
                }
            }
        }
        Ok(())
    }

    /// Which positions of a reading its user needs.
    fn positions_taken(&self, user: NodeId, arg: NodeId) -> Positions {
        match (&self.graph.node(user).op, &self.graph.node(arg).op) {
            (Op::Slice(region), Op::Get { at, site }) => self.positions(*at, self.order.positions[site.index()], region),
            _ => Positions::All,
        }
    }

    fn positions(&self, at: At, site: usize, region: &Region) -> Positions {
        let length = match at.step {
            0 => self.lengths.get(at.invoke.index()).copied().flatten(),
            _ => Some(1),
        };
        positions::of(region, &self.table.sites()[site].facts, length)
    }

    fn why_without_effect(&self, at: At, site: usize, region: &Region) -> Option<String> {
        let later = self.replaced.get(&(at.invoke, at.step, site));
        if let Some((_, by)) = later.into_iter().flatten().find(|(other, _)| other.is_whole() || other == region) {
            let by = self.graph.source(*by).map_or("another edit".to_string(), |place| place.to_string());
            return Some(format!("{by} replaces it before anything reads it"));
        }
        let seen_by = (0..self.readers.len()).filter(|&other| self.graph.share_rows(InvokeId(other as u32), at.invoke));
        let readers = seen_by.flat_map(|invoke| &self.readers[invoke]).copied().collect::<Vec<_>>();
        let Some(first) = readers.first() else {
            return Some("nothing that is saved is read after it".to_string());
        };
        let end = self.table.at_rank(self.table.sites().len() - 1);
        let later = readers.iter().filter(|reader| {
            let target = reader.time.visited(self.table).filter(|_| reader.time.step == at.step).unwrap_or(end);
            target == site || self.table.reaches(site, target)
        });
        let later = later.collect::<Vec<_>>();
        let Some(seen_first) = later.first() else {
            return Some(format!("`{}` does not depend on it", self.reader_name(first)));
        };
        let written = self.positions(at, site, region);
        let last = match self.lengths.get(at.invoke.index()).copied().flatten() {
            Some(length) if at.step == 0 => Positions::Range(length - 1, length - 1),
            _ => Positions::All,
        };
        let sees = |reader: &&Reader| match (reader.time.step == at.step, reader.node) {
            (true, Some(node)) => {
                let mixed = reader.time.visited(self.table).is_none_or(|read| self.table.mixes_between(site, read));
                written.reaches(&self.read[node.index()], mixed)
            }
            // A later step depends on the token chosen at the last position, and on the keys and values of all.
            _ => written.reaches(&last, self.table.mixes_between(site, end)),
        };
        match later.iter().any(sees) {
            true => None,
            false => {
                let read = seen_first.node.map_or(&last, |node| &self.read[node.index()]);
                let name = self.reader_name(seen_first);
                Some(format!("it writes {written}, and of `{name}` {read} is read, which does not depend on that"))
            }
        }
    }

    fn reader_name(&self, reader: &Reader) -> &str {
        match reader.time.visited(self.table) {
            Some(site) => &self.table.sites()[site].path,
            None => "tokens",
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

/// Checks that nothing comes after the place where a run is always stopped.
fn check_stopped(graph: &Graph, order: &Order) -> Result<()> {
    let stops = graph.iter().filter_map(|(id, node)| match node.op {
        Op::Stop { at, .. } if node.guards.is_empty() => Some((id, at.invoke)),
        _ => None,
    });
    for (stop, invoke) in stops.collect::<Vec<_>>() {
        let end = (order.moments[stop.index()].time, stop);
        for (id, node) in graph.iter() {
            let visits = matches!(node.op, Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } if at.invoke == invoke);
            if visits && (order.moments[id.index()].time, id) > end {
                return Err(Error::AfterStop { stopped: graph.source(stop), source_line: graph.source(id) });
            }
        }
    }
    Ok(())
}

/// Checks that nothing touches the inside of a module that is skipped.
fn check_skipped(graph: &Graph, table: &SiteTable, order: &Order) -> Result<()> {
    let skips = graph.iter().filter_map(|(_, node)| match node.op {
        Op::Skip { at, site, .. } => Some((at, table.module_of(order.positions[site.index()]))),
        _ => None,
    });
    let skips = skips.collect::<Vec<_>>();
    if skips.is_empty() {
        return Ok(());
    }
    check_past(graph, table, order, &skips.iter().map(|(at, module)| (*at, module.path.as_str())).collect::<Vec<_>>())?;
    for (id, node) in graph.iter() {
        let (at, site, inputs) = match node.op {
            // What a skipped module is given can still be read, and so it can be set where somebody reads it.
            Op::Get { at, site } => (at, site, 1),
            Op::Set { at, site, .. } => (at, site, usize::from(is_read_later(graph, order, id, at, site))),
            _ => continue,
        };
        let position = order.positions[site.index()];
        let inside = |skipped: At, inner: &std::ops::Range<usize>| {
            graph.share_rows(skipped.invoke, at.invoke) && skipped.step == at.step && (inner.start + inputs..inner.end - 1).contains(&position)
        };
        if let Some((_, module)) = skips.iter().find(|(skipped, module)| inside(*skipped, &module.sites)) {
            let site = table.sites()[position].path.clone();
            return Err(Error::InsideSkipped { site, module: module.path.clone(), source_line: graph.source(id) });
        }
    }
    Ok(())
}

/// Whether a site is read after an edit of it.
fn is_read_later(graph: &Graph, order: &Order, edit: NodeId, at: At, site: SiteId) -> bool {
    let position = order.positions[site.index()];
    let reads = |(id, node): (NodeId, &Node)| match node.op {
        Op::Get { at: read, site } => id > edit && (read.invoke, read.step, order.positions[site.index()]) == (at.invoke, at.step, position),
        _ => false,
    };
    graph.iter().any(reads)
}

/// Checks that a module with an attention, once it is skipped, is skipped at every later step.
fn check_past(graph: &Graph, table: &SiteTable, order: &Order, skips: &[(At, &str)]) -> Result<()> {
    for (id, node) in graph.iter() {
        let Op::Skip { at, site, .. } = node.op else { continue };
        let module = table.module_of(order.positions[site.index()]);
        let steps = graph.invokes[at.invoke.index()].generation.as_ref().map_or(1, |generation| generation.max_new_tokens);
        let attends = table.mixes_between(module.sites.start, module.sites.end - 1);
        let next = |(other, path): &(At, &str)| other.invoke == at.invoke && other.step == at.step + 1 && *path == module.path;
        if attends && (at.step as usize) + 1 < steps && !skips.iter().any(next) {
            return Err(Error::NoPast { module: module.path.clone(), step: at.step, source_line: graph.source(id) });
        }
    }
    Ok(())
}
