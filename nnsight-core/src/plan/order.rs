//! When each value exists: in which batch, at which step of a generation, and at which site of the pass.

use std::collections::{BTreeMap, HashMap};

use super::batches::Batches;
use super::passes::{Draft, Pass, count};
use crate::graph::{At, Graph, InvokeId, NodeId, Op};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// A point of a batch, told by sites: the step of the generation, and within it when the pass reaches a site (counted from 1; 0 is before the pass).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SitePoint {
    pub step: u32,
    passed: usize,
}

impl SitePoint {
    /// After the last step.
    pub const END: SitePoint = SitePoint { step: u32::MAX, passed: 0 };

    /// When the pass of a step reaches a site.
    pub fn at(table: &SiteTable, step: u32, site: usize) -> Self {
        SitePoint { step, passed: table.rank(site) + 1 }
    }

    /// The site that the pass reaches then.
    pub fn visited(self, table: &SiteTable) -> Option<usize> {
        self.passed.checked_sub(1).map(|rank| table.at_rank(rank))
    }
}

/// A point of the program: a batch, and a point of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProgramPoint {
    pub batch: usize,
    pub time: SitePoint,
    /// How far the gradients have come back that it depends on: 0 before any.
    pub back: u32,
}

/// When everything happens.
#[derive(Default)]
pub(super) struct Order {
    /// The batch of each invoke.
    pub batches: Vec<usize>,
    /// The point of each node.
    pub points: Vec<ProgramPoint>,
    /// The position of each of the graph's sites in the table.
    pub positions: Vec<usize>,
}

/// When each value can exist.
pub(super) struct Ordered;

impl Pass for Ordered {
    fn name(&self) -> &'static str {
        "order"
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        draft.order = order(&draft.graph, draft.table)?;
        let batches = draft.order.batches.iter().max().map_or(0, |last| last + 1);
        Ok((batches > 1).then(|| format!("{} one after the other, since one needs what another reads", count(batches, "batch"))))
    }
}

/// Finds when each node can run.
///
/// # Errors
/// [`Error::NoSite`], [`Error::TooLate`], [`Error::NoGradient`] or [`Error::Circle`].
fn order(graph: &Graph, table: &SiteTable) -> Result<Order> {
    let positions = positions(graph, table)?;
    let visits = graph.nodes.iter().map(|node| visit(&node.op, table, &positions)).collect::<Vec<_>>();
    let batches = Batches::new(graph, table, &positions, &visits).find()?;
    let mut points: Vec<ProgramPoint> = Vec::with_capacity(graph.nodes.len());
    // The point from which on a value can be used: an edit has none of its own.
    let mut known: Vec<ProgramPoint> = Vec::with_capacity(graph.nodes.len());
    for (node, visit) in graph.nodes.iter().zip(&visits) {
        let last = node.uses().map(|used| known[used.index()]).max().unwrap_or_default();
        let own = visit.map_or(last, |(invoke, time)| ProgramPoint { batch: batches[invoke.index()], time, back: 0 });
        points.push(own);
        known.push(if gives_what_is_there(&node.op) { own } else { last });
    }
    order_gradients(graph, &mut points)?;
    Ok(Order { batches, points, positions })
}

fn positions(graph: &Graph, table: &SiteTable) -> Result<Vec<usize>> {
    let position = |path: &String| {
        table.position(path).ok_or_else(|| Error::NoSite {
            path: crate::error::shortened(path),
            suggestion: crate::error::did_you_mean(table.suggest(path)),
            source_line: None,
        })
    };
    graph.sites.iter().map(position).collect()
}

/// When a node touches the model, if it does.
fn visit(op: &Op, table: &SiteTable, positions: &[usize]) -> Option<(InvokeId, SitePoint)> {
    let time = |at: At, site: usize| Some((at.invoke, SitePoint::at(table, at.step, site)));
    match *op {
        Op::Get { at, site } | Op::Set { at, site, .. } | Op::Stop { at, site } => time(at, positions[site.index()]),
        // A module is skipped before it begins.
        Op::Skip { at, site, .. } => time(at, table.module_of(positions[site.index()]).sites.start),
        Op::Output { invoke } => Some((invoke, SitePoint::END)),
        _ => None,
    }
}

/// Whether the value of a node is what its invoke holds then, whatever the branch depends on that it is in.
pub(super) fn gives_what_is_there(op: &Op) -> bool {
    matches!(op, Op::Get { .. } | Op::Output { .. })
}

/// Orders what needs gradients, which come into being from the loss backwards.
fn order_gradients(graph: &Graph, points: &mut [ProgramPoint]) -> Result<()> {
    let ranks = ranks(graph, points);
    for (id, node) in graph.iter() {
        let needed = node.uses().map(|used| points[used.index()].back).max().unwrap_or(0);
        points[id.index()].back = match node.op {
            Op::Grad | Op::SetGrad => {
                let (of, loss) = (node.args[0], node.args[1]);
                let own = points[loss.index()].back + ranks.get(&(of, loss)).copied().unwrap_or(0);
                if needed > own {
                    let reason = "it needs a gradient that comes into being later, further back in the model".to_string();
                    return Err(Error::NoGradient { reason, source_line: graph.source(id) });
                }
                own
            }
            _ => needed,
        };
    }
    Ok(())
}

/// For each value and loss between which there is a gradient its place on the way back from the loss, from 1.
fn ranks(graph: &Graph, points: &[ProgramPoint]) -> HashMap<(NodeId, NodeId), u32> {
    let mut by_loss: BTreeMap<NodeId, Vec<(ProgramPoint, NodeId)>> = BTreeMap::new();
    for node in graph.nodes.iter().filter(|node| matches!(node.op, Op::Grad | Op::SetGrad)) {
        by_loss.entry(node.args[1]).or_default().push((points[node.args[0].index()], node.args[0]));
    }
    let mut ranks = HashMap::new();
    for (loss, mut of) in by_loss {
        of.sort_unstable_by(|a, b| b.cmp(a));
        of.dedup();
        ranks.extend(of.iter().zip(1..).map(|(&(_, of), rank)| ((of, loss), rank)));
    }
    ranks
}
