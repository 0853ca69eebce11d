//! Chains of element-wise operations: a value that only the next of them uses is not computed by itself, but in one pass with that.

use super::order::Order;
use super::passes::{Draft, Pass, count};
use super::schedule::PlanContext;
use crate::Result;
use crate::graph::{Graph, Op};

/// Element-wise operations one after the other are computed in one pass.
pub(super) struct Fuse;

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fused operations"
    }

    fn is_on(&self, context: &PlanContext<'_>) -> bool {
        context.options.fuse
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        draft.fused = fused(&draft.graph, &draft.order, &draft.liveness.needed, &draft.uses);
        let some = draft.fused.iter().filter(|fused| **fused).count();
        Ok((some > 0).then(|| format!("{} with the node that uses its value", count(some, "node"))))
    }
}

/// Which nodes are computed by their only user.
fn fused(graph: &Graph, order: &Order, needed: &[bool], uses: &[u32]) -> Vec<bool> {
    let mut fused = vec![false; graph.nodes.len()];
    if graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad)) {
        return fused;
    }
    for (id, user) in graph.iter().filter(|(id, user)| needed[id.index()] && user.op.is_element_wise() && user.guards.is_empty()) {
        for &arg in &user.args {
            let node = graph.node(arg);
            // At another point what it is computed from would have to be kept for it.
            let together = order.points[arg.index()] == order.points[id.index()];
            fused[arg.index()] = together && uses[arg.index()] == 1 && node.op.is_element_wise() && node.guards.is_empty();
        }
    }
    fused
}
