//! Chains of element-wise operations: a value that only the next of them uses is not computed by itself, but in one pass with that.

use super::order::Order;
use crate::graph::{Graph, Op};

/// Which nodes are computed by their only user.
pub(super) fn fused(graph: &Graph, order: &Order, needed: &[bool], uses: &[u32]) -> Vec<bool> {
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
