//! What is needed: which nodes a saved value depends on. An edit that none depends on is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::order::{Order, SitePoint};
use super::passes::{Draft, Pass, count};
use super::positions::{self, Positions};
use super::readers::{Edit, Reader, Readers, Sight};
use super::schedule::PlanContext;
use super::unreachable::{check_branches, check_skipped, check_stopped};
use crate::graph::{At, Graph, InvokeId, NodeId, Op, Region, Source, SourceId, Unused, Visited};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// Which nodes are needed. An edit that nothing needs is refused.
pub(super) struct Needed;

impl Pass for Needed {
    fn name(&self) -> &'static str {
        "dead code"
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        draft.liveness = needed(&draft.graph, draft.table, &draft.order, draft.context)?;
        let dead = draft.liveness.needed.iter().filter(|needed| !**needed).count();
        Ok((dead > 0).then(|| format!("{} that nothing needs", count(dead, "node"))))
    }
}

/// Marks the nodes that are needed.
///
/// # Errors
/// [`Error::NoEffect`] for an edit that nothing needs, [`Error::OutsideBranch`] for a value of a branch that is used outside of it,
/// [`Error::InsideSkipped`] for what touches the inside of a module that is not run.
fn needed(graph: &Graph, table: &SiteTable, order: &Order, context: PlanContext<'_>) -> Result<Liveness> {
    check_branches(graph)?;
    check_skipped(graph, table, order)?;
    check_stopped(graph, order)?;
    let mut sweep = Sweep {
        graph,
        table,
        order,
        lengths: context.lengths,
        needed: vec![false; graph.nodes.len()],
        read: vec![Positions::default(); graph.nodes.len()],
        readers: graph.invokes.iter().map(|_| Readers::default()).collect(),
        reading: BTreeSet::new(),
        readers_of_all: Readers::default(),
        replaced: Visited::default(),
        gradients: HashSet::new(),
        without_effect: BTreeMap::new(),
    };
    for &save in &graph.saves {
        sweep.needed[save.index()] = true;
        sweep.read[save.index()].add(Positions::All);
    }
    for (index, invoke) in graph.invokes.iter().enumerate() {
        if context.streams && invoke.rollout.is_some() {
            sweep.add_reader(InvokeId(index as u32), Reader { time: SitePoint::END, node: None });
        }
    }
    let mut latest_first = graph.iter().map(|(id, _)| id).collect::<Vec<_>>();
    latest_first.sort_by_key(|id| std::cmp::Reverse((order.points[id.index()], *id)));
    for id in latest_first {
        sweep.visit(id)?;
    }
    if !sweep.without_effect.is_empty() {
        let edits = graph.iter().filter(|(id, node)| sweep.needed[id.index()] && matches!(node.op, Op::Set { .. } | Op::Skip { .. }));
        let lines = edits.map(|(_, node)| &graph.sources[node.source.index()]).collect::<HashSet<&Source>>();
        let refused = sweep.without_effect.into_iter().find(|(line, _)| !lines.contains(&graph.sources[line.index()]));
        if let Some((_, (id, site, reason))) = refused {
            return Err(Error::NoEffect { site, reason, source_line: graph.source(id) });
        }
    }
    Ok(Liveness { needed: sweep.needed, read: sweep.read })
}

/// What is needed.
#[derive(Default)]
pub(super) struct Liveness {
    /// The nodes.
    pub needed: Vec<bool>,
    /// Which positions of each reading.
    pub read: Vec<Positions>,
}

/// The edits of a site that come later, before anybody reads it.
#[derive(Default)]
struct Replaced {
    count: usize,
    whole: Option<(usize, NodeId)>,
    parts: HashMap<Region, (usize, NodeId)>,
}

impl Replaced {
    fn add(&mut self, region: &Region, edit: NodeId) {
        let edit = (self.count, edit);
        self.count += 1;
        match region.is_whole() {
            true => _ = self.whole.get_or_insert(edit),
            false => _ = self.parts.entry(region.clone()).or_insert(edit),
        }
    }

    /// The last edit that replaces all of a region.
    fn by(&self, region: &Region) -> Option<NodeId> {
        self.whole.iter().chain(self.parts.get(region)).min().map(|(_, edit)| *edit)
    }
}

/// Why nothing that is saved depends on an edit.
enum Why {
    Replaced(NodeId),
    Nobody,
    Elsewhere(Reader),
    OtherPositions(Reader, Positions, Positions),
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
    readers: Vec<Readers>,
    /// The invokes that have some.
    reading: BTreeSet<InvokeId>,
    /// Those of all invokes that see all prompts.
    readers_of_all: Readers,
    /// The parts of sites that a later edit replaces before anybody reads them.
    replaced: Visited<Replaced>,
    /// The gradients that are needed, as far as they come into being later: their losses.
    gradients: HashSet<NodeId>,
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
                self.add_reader(at.invoke, Reader { time: self.order.points[id.index()].time, node: Some(id) });
                self.replaced.forget(self.graph, at, position);
            }
            Op::Output { invoke } => self.add_reader(invoke, Reader { time: SitePoint::END, node: Some(id) }),
            Op::Grad => _ = self.gradients.insert(node.args[1]),
            _ => {}
        }
        for arg in node.uses() {
            self.needed[arg.index()] = true;
            let taken = self.positions_taken(id, arg);
            self.read[arg.index()].add(taken);
        }
        Ok(())
    }

    fn add_reader(&mut self, invoke: InvokeId, reader: Reader) {
        let readers = match self.graph.sees_all(invoke) {
            true => &mut self.readers_of_all,
            false => {
                self.reading.insert(invoke);
                &mut self.readers[invoke.index()]
            }
        };
        readers.add(self.table, reader, reader.node.map_or(&Positions::All, |node| &self.read[node.index()]));
    }

    /// Looks at what an edit reaches.
    fn edit(&mut self, id: NodeId, at: At, position: usize, region: &Region, unused: Unused) -> Result<()> {
        let line = self.graph.node(id).source;
        match (self.why_without_effect(at, position, region), unused) {
            (None, _) | (Some(_), Unused::Keep) => self.needed[id.index()] = true,
            (Some(_), Unused::Drop) => return Ok(()),
            (Some(why), Unused::Sweep) => {
                if !self.without_effect.contains_key(&line) {
                    let site = self.table.sites()[position].path.clone();
                    self.without_effect.insert(line, (id, site, self.reason(why)));
                }
                return Ok(());
            }
            (Some(why), Unused::Refuse) => {
                let site = self.table.sites()[position].path.clone();
                return Err(Error::NoEffect { site, reason: self.reason(why), source_line: self.graph.source(id) });
            }
        }
        if self.graph.node(id).guards.is_empty() {
            self.replaced.entry(self.graph, at, position).add(region, id);
            // Later steps see what earlier layers held, through their keys and values.
            let once = self.graph.invokes[at.invoke.index()].rollout.is_none();
            if once && region.is_whole() && self.table.sites()[position].is_residual_boundary {
                match self.graph.sees_all(at.invoke) {
                    true => {
                        std::mem::take(&mut self.reading).into_iter().for_each(|invoke| self.readers[invoke.index()].clear());
                        self.readers_of_all.clear();
                    }
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

    fn why_without_effect(&mut self, at: At, site: usize, region: &Region) -> Option<Why> {
        if let Some(by) = self.replaced.get(self.graph, at, site).and_then(|replaced| replaced.by(region)) {
            return Some(Why::Replaced(by));
        }
        let written = self.positions(at, site, region);
        let last = match self.lengths.get(at.invoke.index()).copied().flatten() {
            Some(length) if at.step == 0 => Positions::Range(length.saturating_sub(1), length.saturating_sub(1)),
            _ => Positions::All,
        };
        let edit = Edit { table: self.table, at, site, written: &written, last: &last };
        let seen_by = match self.graph.sees_all(at.invoke) {
            true => self.reading.iter().copied().collect(),
            false => vec![at.invoke],
        };
        let mut why = Why::Nobody;
        for invoke in [None].into_iter().chain(seen_by.into_iter().map(Some)) {
            let readers = invoke.map_or(&mut self.readers_of_all, |invoke| &mut self.readers[invoke.index()]);
            why = match (readers.sight(&edit), why) {
                (Sight::Seen, _) => return None,
                (Sight::OtherPositions(reader), Why::Nobody | Why::Elsewhere(_)) => Why::OtherPositions(reader, written.clone(), last.clone()),
                (Sight::Elsewhere(reader), Why::Nobody) => Why::Elsewhere(reader),
                (_, why) => why,
            };
        }
        Some(why)
    }

    fn reason(&self, why: Why) -> String {
        match why {
            Why::Replaced(by) => {
                let by = self.graph.source(by).map_or("another edit".to_string(), |place| place.to_string());
                format!("{by} replaces it before anything reads it")
            }
            Why::Nobody => "nothing that is saved is read after it".to_string(),
            Why::Elsewhere(reader) => format!("`{}` does not depend on it", self.reader_name(reader)),
            Why::OtherPositions(reader, written, last) => {
                let (name, read) = (self.reader_name(reader), reader.node.map_or(&last, |node| &self.read[node.index()]));
                format!("it writes {written}, and of `{name}` {read} is read, which does not depend on that")
            }
        }
    }

    fn reader_name(&self, reader: Reader) -> &str {
        match reader.time.visited(self.table) {
            Some(site) => &self.table.sites()[site].path,
            None => "tokens",
        }
    }
}
