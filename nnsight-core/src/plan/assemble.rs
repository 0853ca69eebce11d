//! The nodes that are needed, each in its batch and at its site.

use super::batch_calls;
use super::order::SitePoint;
use super::passes::{Draft, Pass};
use super::schedule::{PassBatch, PlanContext, Share, SiteVisit};
use crate::Result;
use crate::graph::{InvokeId, Op};

/// Puts the nodes that are needed into the batches.
pub(super) struct Assemble;

impl Pass for Assemble {
    fn name(&self) -> &'static str {
        "batches"
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        let Draft { graph, table, context, order, liveness, shares, .. } = draft;
        let (graph, needed) = (&**graph, &liveness.needed);
        let PlanContext { facts, options, .. } = *context;
        let mut run = graph.iter().map(|(id, _)| id).filter(|id| needed[id.index()]).collect::<Vec<_>>();
        run.sort_by_key(|id| (order.points[id.index()], *id));
        let mut uses = vec![0; graph.nodes.len()];
        graph.saves.iter().for_each(|save| uses[save.index()] += 1);
        let mut batches = std::mem::take(shares).into_iter().map(|share| PassBatch { share, ..PassBatch::default() }).collect::<Vec<_>>();
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
        let mut portions = batch_calls::Portions::new(graph, if options.batch_calls { facts } else { &[] });
        for batch in &mut batches {
            portions.side_by_side(&mut batch.after);
            if let Share::Branch { entries, .. } = &batch.share {
                batch.invokes = entries.iter().map(|(invoke, _)| *invoke).collect();
            }
        }
        (draft.uses, draft.with_gradient, draft.batches) = (uses, with_gradient, batches);
        Ok(None)
    }
}
