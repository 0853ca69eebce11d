//! Whether a gradient can arrive: there must be a way from the loss back to the value, through operations that have a gradient.

use super::order::{Order, Time};
use crate::graph::{Graph, InvokeId, NodeId, Op, Reduce};
use crate::module::SiteTable;
use crate::types::KindTag;
use crate::{Error, Result};

/// Checks every gradient that is needed.
///
/// # Errors
/// [`Error::NoGradient`] with the reason and the line.
pub(super) fn check(graph: &Graph, table: &SiteTable, order: &Order, needed: &[bool]) -> Result<()> {
    let wanted = graph.iter().filter(|(id, node)| needed[id.index()] && matches!(node.op, Op::Grad | Op::SetGrad));
    for (id, node) in wanted {
        let (of, loss) = (node.args[0], node.args[1]);
        let way = Way { graph, table, order, of };
        if way.reaches(loss, |op| stops(op).is_none()) {
            continue;
        }
        let stopped_by =
            graph.iter().filter(|(_, node)| !matches!(node.op, Op::Grad)).filter_map(|(_, node)| stops(&node.op).map(|_| node.op.name()));
        let reason = match way.reaches(loss, |_| true) {
            true => {
                let mut names = stopped_by.map(|name| format!("`{name}`")).collect::<Vec<_>>();
                names.sort();
                names.dedup();
                format!("on every way back from the loss stands an operation that has none ({})", names.join(", "))
            }
            false => "the loss does not depend on this value".to_string(),
        };
        return Err(Error::NoGradient { reason, source_line: graph.source(id) });
    }
    Ok(())
}

/// Says that no gradient comes back through an operation.
fn stops(op: &Op) -> Option<()> {
    let constant = match op {
        Op::Compare(_)
        | Op::Logic(_)
        | Op::OneHot { .. }
        | Op::Full(_)
        | Op::Randn { .. }
        | Op::Tokens { .. }
        | Op::Grad
        | Op::TopK { indices: true, .. }
        | Op::Reduce { reduce: Reduce::ArgMax | Reduce::ArgMin, .. } => true,
        Op::Cast(kind) => *kind != KindTag::Float,
        _ => false,
    };
    constant.then_some(())
}

/// The way from one value forward.
struct Way<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    order: &'a Order,
    of: NodeId,
}

impl Way<'_> {
    /// Whether `target` depends on the value, going on only through operations that `passes` lets through.
    fn reaches(&self, target: NodeId, passes: impl Fn(&Op) -> bool) -> bool {
        let mut on_the_way = vec![false; self.graph.nodes.len()];
        on_the_way[self.of.index()] = true;
        // Where the model holds something that depends on the value.
        let mut held: Vec<(InvokeId, Time)> = Vec::new();
        let mut run_order = self.graph.iter().map(|(id, _)| id).collect::<Vec<_>>();
        run_order.sort_by_key(|id| (self.order.moments[id.index()], *id));
        for id in run_order {
            let node = self.graph.node(id);
            let time = self.order.moments[id.index()].time;
            let from_args = || node.args.iter().any(|arg| on_the_way[arg.index()]);
            match node.op {
                Op::Get { at, site } if id == self.of => held.push((at.invoke, self.at_site(time, self.order.positions[site.index()]))),
                Op::Get { at, .. } => {
                    on_the_way[id.index()] = held.iter().any(|&(invoke, from)| self.graph.share_rows(invoke, at.invoke) && self.flows(from, time))
                }
                Op::Set { at, site, .. } | Op::Skip { at, site, .. } if from_args() => {
                    held.push((at.invoke, self.at_site(time, self.order.positions[site.index()])));
                }
                // What replaces everything that goes on from here leaves nothing of what was there.
                Op::Set { at, site, ref region, .. } => {
                    let once = self.graph.invokes[at.invoke.index()].generation.is_none() && node.guards.is_empty();
                    if once && region.is_whole() && self.table.sites()[self.order.positions[site.index()]].is_bottleneck {
                        held.retain(|(invoke, _)| *invoke != at.invoke);
                    }
                }
                _ if id == self.of => {}
                ref op => on_the_way[id.index()] = passes(op) && from_args(),
            }
        }
        on_the_way[target.index()]
    }

    fn at_site(&self, time: Time, site: usize) -> Time {
        Time::at(self.table, time.step, site)
    }

    /// Whether what the model holds at one moment can depend on what it holds at another. No gradient flows through the choice of a token.
    fn flows(&self, from: Time, to: Time) -> bool {
        match (from.visited(self.table), to.visited(self.table)) {
            (Some(from_site), Some(to_site)) => to.step > from.step || from_site == to_site || self.table.reaches(from_site, to_site),
            _ => false,
        }
    }
}
