//! From a graph to its plan.

use super::order::SitePoint;
use super::passes::{PassBatch, Plan, PlanContext, Share, SiteVisit};
use super::{batch_calls, fuse, gradient, liveness, lm_head, order, share};
use crate::Result;
use crate::graph::{Graph, InvokeId, Op};
use crate::sites::SiteTable;

impl Plan {
    /// Orders the nodes that are needed.
    ///
    /// # Errors
    /// [`Error::NoSite`](crate::Error::NoSite), [`Error::TooLate`](crate::Error::TooLate), [`Error::Circle`](crate::Error::Circle),
    /// [`Error::NoEffect`](crate::Error::NoEffect), [`Error::NoGradient`](crate::Error::NoGradient),
    /// [`Error::InsideSkipped`](crate::Error::InsideSkipped) or [`Error::OutsideBranch`](crate::Error::OutsideBranch), each with the line.
    pub fn new(graph: &Graph, table: &SiteTable, context: PlanContext<'_>) -> Result<Self> {
        let mut order = order::order(graph, table)?;
        let liveness = liveness::needed(graph, table, &order, context)?;
        let needed = &liveness.needed;
        gradient::check(graph, table, &order, needed)?;
        let gradients = graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad));
        let shares = share::share(graph, table, &mut order, &liveness, &PlanContext { shares: context.shares && !gradients, ..context });
        batch_calls::batch_calls(graph, &mut order, needed, context.facts, context.budget);
        let mut run = graph.iter().map(|(id, _)| id).filter(|id| needed[id.index()]).collect::<Vec<_>>();
        run.sort_by_key(|id| (order.points[id.index()], *id));
        let mut uses = vec![0; graph.nodes.len()];
        graph.saves.iter().for_each(|save| uses[save.index()] += 1);
        let mut batches = shares.into_iter().map(|share| PassBatch { share, ..PassBatch::default() }).collect::<Vec<_>>();
        let mut read = graph.invokes.iter().map(|invoke| context.streams && invoke.rollout.is_some()).collect::<Vec<_>>();
        let mut all_read = false;
        let mut with_gradient = vec![false; graph.nodes.len()];
        for id in run {
            let node = graph.node(id);
            node.uses().for_each(|used| uses[used.index()] += 1);
            match node.op {
                Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } => {
                    read[at.invoke.index()] = true;
                    all_read |= graph.sees_all(at.invoke);
                }
                Op::Output { invoke } => read[invoke.index()] = true,
                Op::Grad | Op::SetGrad => with_gradient[node.args[0].index()] = true,
                _ => {}
            }
            let point = order.points[id.index()];
            let batch = &mut batches[point.batch];
            match (point.time, point.time.visited(table)) {
                (SitePoint::END, _) => batch.after.push(id),
                (_, None) => batch.before.push(id),
                (SitePoint { step, .. }, Some(site)) => batch.visits.push(SiteVisit { step, site, node: id }),
            }
        }
        for (invoke, &batch) in order.batches.iter().enumerate() {
            // A prompt of which nothing is needed is not run.
            if read[invoke] || all_read {
                batches[batch].invokes.push(InvokeId(invoke as u32));
                batches[batch].rollout.clone_from(&graph.invokes[invoke].rollout);
            }
        }
        let mut portions = batch_calls::Portions::new(graph, context.facts);
        for batch in &mut batches {
            portions.side_by_side(&mut batch.after);
            if let Share::Branch { entries, .. } = &batch.share {
                batch.invokes = entries.iter().map(|(invoke, _)| *invoke).collect();
            }
        }
        if let Some(head) = context.head {
            let windows = lm_head::windows(graph, table, &order, head, &batches, needed);
            batches.iter_mut().zip(windows).for_each(|(batch, window)| batch.window = window);
        }
        // A run that stays the base's reads there what it would have read in its branch.
        for index in (0..batches.len()).rev() {
            if let Share::Branch { base, .. } = batches[index].share {
                batches[base].window = batches[base].window.zip(batches[index].window).map(|(a, b)| a.and(b));
            }
        }
        let fused = match context.fuses {
            true => fuse::fused(graph, &order, needed, &uses),
            false => vec![false; graph.nodes.len()],
        };
        Ok(Plan { batches, uses, with_gradient, fused, stops: context.stops })
    }
}
