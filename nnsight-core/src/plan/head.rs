//! For how many positions the head is needed: in a small model it is a third of the work.

use std::borrow::Cow;

use super::positions;
use super::schedule::Visit;
use crate::graph::{Graph, InvokeId, NodeId, Op, Region};
use crate::module::SiteTable;

/// How many of the last positions hold everything that is read from the sites `head` onwards, where nothing there is written. `None` for all of
/// them. Later steps of a generation have one position anyway.
pub(super) fn tail(graph: &Graph, table: &SiteTable, head: usize, visits: &[Visit], needed: &[bool]) -> Option<usize> {
    let mut in_head = vec![false; graph.nodes.len()];
    for visit in visits.iter().filter(|visit| visit.step == 0 && table.rank(visit.site) >= table.rank(head)) {
        let has_positions = || table.sites()[visit.site].facts.axes.iter().any(|axis| axis.name == "Seq");
        match graph.node(visit.node).op {
            Op::Get { .. } if has_positions() => in_head[visit.node.index()] = true,
            Op::Get { .. } | Op::Set { .. } | Op::Skip { .. } => return None,
            _ => {}
        }
    }
    let conditions = graph.iter().flat_map(|(_, node)| node.guards.iter().map(|guard| guard.condition));
    if graph.saves.iter().copied().chain(conditions).any(|id| in_head[id.index()]) {
        return None;
    }
    let users = graph.iter().filter(|(id, _)| needed[id.index()]).flat_map(|(id, node)| node.args.iter().map(move |arg| (id, arg)));
    users.filter(|(_, arg)| in_head[arg.index()]).try_fold(1, |most, (user, _)| Some(most.max(from_the_end(graph, table, user)?)))
}

/// How many of the last positions a part of a site begins at, where it is counted from the end.
fn from_the_end(graph: &Graph, table: &SiteTable, part: NodeId) -> Option<usize> {
    let (region, at) = place(graph, table, part)?;
    let step = region.0[at];
    let again = region.0.iter().filter(|other| other.axis == step.axis).count() > 1;
    usize::try_from(-step.start).ok().filter(|&count| count > 0 && !again && !step.counts_from_start())
}

/// The region of a part of a site, and which of its steps is the first along the positions.
fn place<'a>(graph: &'a Graph, table: &SiteTable, part: NodeId) -> Option<(&'a Region, usize)> {
    let Op::Slice(region) = &graph.node(part).op else { return None };
    let Op::Get { site, .. } = graph.node(graph.node(part).args[0]).op else { return None };
    let facts = &table.sites()[table.position(graph.site(site))?].facts;
    let at = region.0.iter().position(|step| facts.axes.get(step.axis as usize).is_some_and(|axis| axis.name == "Seq"))?;
    Some((region, at))
}

/// The graph with positions of the sites `head` onwards counted from the end, where the numbers of tokens are known.
pub(crate) fn counted_from_the_end<'a>(graph: Cow<'a, Graph>, table: &SiteTable, head: usize, lengths: &[Option<usize>]) -> Cow<'a, Graph> {
    let mut instead = Vec::new();
    for (id, node) in graph.iter() {
        let Some((region, at)) = place(&graph, table, id) else { continue };
        let Op::Get { at: visit, site } = graph.node(node.args[0]).op else { continue };
        let Some(position) = table.position(graph.site(site)).filter(|&site| visit.step == 0 && table.rank(site) >= table.rank(head)) else {
            continue;
        };
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
