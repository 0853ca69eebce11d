//! For how many positions the head is needed: in a small model it is a third of the work.

use std::borrow::Cow;

use super::order::Order;
use super::passes::{Draft, Pass, count};
use super::positions;
use super::schedule::{PassBatch, PlanContext, Share};
use crate::Result;
use crate::batch::Window;
use crate::graph::{AxisRole, Graph, InvokeId, NodeId, Op, Region};
use crate::sites::SiteTable;

/// Positions of the last stage that count from the start are made to count from the end, so that the other end need not be there.
pub(super) struct CountFromTheEnd;

impl Pass for CountFromTheEnd {
    fn name(&self) -> &'static str {
        "counting from the end"
    }

    fn is_on(&self, context: &PlanContext<'_>) -> bool {
        context.options.lm_head && context.head.is_some()
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        let Some(head) = draft.context.head else { return Ok(None) };
        let graph = std::mem::take(&mut draft.graph);
        draft.graph = counted_from_the_end(graph, draft.table, head, draft.context.lengths);
        Ok(None)
    }
}

/// The last stage, and the layer before it if nobody looks into that, is asked for those positions only that are read.
pub(super) struct Head;

impl Pass for Head {
    fn name(&self) -> &'static str {
        "the head where it is read"
    }

    fn is_on(&self, context: &PlanContext<'_>) -> bool {
        context.options.lm_head && context.head.is_some()
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        let Some(head) = draft.context.head else { return Ok(None) };
        let batches = &mut draft.batches;
        let windows = windows(&draft.graph, draft.table, &draft.order, head, batches, &draft.liveness.needed);
        batches.iter_mut().zip(windows).for_each(|(batch, window)| batch.window = window);
        // A run that stays the base's reads there what it would have read in its branch.
        for index in (0..batches.len()).rev() {
            if let Share::Branch { base, .. } = batches[index].share {
                batches[base].window = batches[base].window.zip(batches[index].window).map(|(a, b)| a.and(b));
            }
        }
        let some = batches.iter().filter(|batch| batch.window.is_some()).count();
        Ok((some > 0).then(|| format!("for some positions only in {}", count(some, "batch"))))
    }
}

/// For each batch the positions that hold everything which is read from the sites `head` onwards, if nothing there is written; `None` for all of
/// them. Later steps of a generation have one position anyway; that it has them, the last position must be there.
fn windows(graph: &Graph, table: &SiteTable, order: &Order, head: usize, batches: &[PassBatch], needed: &[bool]) -> Vec<Option<Window>> {
    // Which batch reads each node in the head.
    let mut read_in: Vec<Option<usize>> = vec![None; graph.nodes.len()];
    // The window of each batch so far, if it has one, and if anybody reads.
    let mut windows = batches.iter().map(|batch| Some(batch.rollout.is_some().then_some(Window::LAST))).collect::<Vec<_>>();
    for (index, batch) in batches.iter().enumerate() {
        for visit in batch.visits.iter().filter(|visit| visit.step == 0 && table.rank(visit.site) >= table.rank(head)) {
            let has_positions = || table.sites()[visit.site].facts.along(|role| role == AxisRole::Position).is_some();
            match graph.node(visit.node).op {
                Op::Get { .. } if has_positions() => read_in[visit.node.index()] = Some(index),
                Op::Get { .. } | Op::Set { .. } | Op::Skip { .. } => windows[index] = None,
                _ => {}
            }
        }
    }
    let conditions = graph.nodes.iter().flat_map(|node| node.guards.iter().map(|guard| guard.condition));
    for batch in graph.saves.iter().copied().chain(conditions).filter_map(|id| read_in[id.index()]) {
        windows[batch] = None;
    }
    for (user, node) in graph.iter().filter(|(id, _)| needed[id.index()]) {
        for batch in node.args.iter().filter_map(|arg| read_in[arg.index()]) {
            if let Some(window) = windows[batch] {
                let own = from_the_end(graph, table, order, user);
                windows[batch] = own.map(|own| Some(window.map_or(own, |window| window.and(own))));
            }
        }
    }
    // If nobody reads, what is left of the head is cheap.
    windows.into_iter().map(|window| window.map(|window| window.unwrap_or(Window::LAST))).collect()
}

/// The positions that a part of a site takes, where they are counted from the end.
fn from_the_end(graph: &Graph, table: &SiteTable, order: &Order, part: NodeId) -> Option<Window> {
    let (region, at) = place(graph, table, &order.positions, part)?;
    let step = region.0[at];
    let again = region.0.iter().filter(|other| other.axis == step.axis).count() > 1;
    let from = usize::try_from(-step.start).ok().filter(|&from| from > 0 && !again && !step.counts_from_start())?;
    let behind = match (step.single, step.end) {
        (true, _) => from - 1,
        (false, None) => 0,
        (false, Some(end)) => usize::try_from(-end).ok()?,
    };
    (behind < from).then_some(Window { from, behind })
}

/// A part of a site whose last positions are not there: where it lies in what is left.
pub(crate) fn without_what_is_behind(region: &Region, axis: usize, behind: usize) -> Region {
    let mut region = region.clone();
    if let Some(step) = region.0.iter_mut().find(|step| step.axis as usize == axis) {
        step.start += behind as i64;
        step.end = step.end.map(|end| end + behind as i64).filter(|&end| end < 0);
    }
    region
}

/// The region of a part of a site, and which of its steps is the first along the positions.
fn place<'a>(graph: &'a Graph, table: &SiteTable, positions: &[usize], part: NodeId) -> Option<(&'a Region, usize)> {
    let Op::Slice(region) = &graph.node(part).op else { return None };
    let Op::Get { site, .. } = graph.node(graph.node(part).args[0]).op else { return None };
    let facts = &table.sites()[positions[site.index()]].facts;
    let at = region.0.iter().position(|step| facts.axes.get(step.axis as usize).is_some_and(|axis| axis.role == AxisRole::Position))?;
    Some((region, at))
}

/// The graph with positions of the sites `head` onwards counted from the end, where the numbers of tokens are known.
fn counted_from_the_end<'a>(graph: Cow<'a, Graph>, table: &SiteTable, head: usize, lengths: &[Option<usize>]) -> Cow<'a, Graph> {
    // A graph with a site that the model lacks is refused later.
    let Some(places) = graph.sites.iter().map(|path| table.position(path)).collect::<Option<Vec<_>>>() else { return graph };
    let mut instead = Vec::new();
    for (id, node) in graph.iter() {
        let Some((region, at)) = place(&graph, table, &places, id) else { continue };
        let Op::Get { at: visit, site } = graph.node(node.args[0]).op else { continue };
        let position = places[site.index()];
        if visit.step != 0 || table.rank(position) < table.rank(head) {
            continue;
        }
        let length = lengths.get(InvokeId::index(visit.invoke)).copied().flatten();
        let (Some(length), positions::Positions::Range(first, last)) = (length, positions::of(region, &table.sites()[position].facts, length)) else {
            continue;
        };
        let mut region = region.clone();
        let step = &mut region.0[at];
        step.start = first as i64 - length as i64;
        step.end = Some(last as i64 + 1 - length as i64).filter(|&end| end < 0);
        instead.push((id, region));
    }
    if instead.is_empty() {
        return graph;
    }
    let mut graph = graph.into_owned();
    for (id, region) in instead {
        graph.nodes[id.index()].op = Op::Slice(region);
    }
    Cow::Owned(graph)
}
