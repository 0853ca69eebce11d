//! A graph whose readings are off by little: what its results then differ by, they may differ by.

use nnsight::graph::{Binary, Node, NodeId, Op};
use nnsight::prelude::*;
use nnsight::types::KindTag;

use super::check::Subject;

/// The graph with every number that it reads a little larger or smaller, by turns: of two equal numbers from two runs, either may be the larger in its
/// last bits.
pub fn perturbed(graph: &Graph, subject: &Subject) -> Option<Graph> {
    let is_float = |path: &str| subject.sites.iter().any(|(site, kind, _)| site.trim_start_matches("model.") == path && *kind == KindTag::Float);
    let gradients = graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad));
    let mut nodes: Vec<Node> = Vec::new();
    let mut readings = 0;
    let mut moved = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let mut node = node.clone();
        node.args.iter_mut().chain(node.guards.iter_mut().map(|guard| &mut guard.condition)).for_each(|id| *id = moved[id.index()]);
        let (source, guards) = (node.source, node.guards.clone());
        let reads = match node.op {
            Op::Get { site, .. } => is_float(graph.site(site)) && !gradients,
            _ => false,
        };
        nodes.push(node);
        if reads {
            let read = NodeId(nodes.len() as u32 - 1);
            let factor = if readings % 2 == 0 { 1.0 + 3e-6 } else { 1.0 - 3e-6 };
            readings += 1;
            nodes.push(Node { op: Op::Scalar(factor), args: vec![], guards: guards.clone(), source });
            nodes.push(Node { op: Op::Binary(Binary::Mul), args: vec![read, NodeId(read.0 + 1)], guards, source });
        }
        moved.push(NodeId(nodes.len() as u32 - 1));
    }
    let saves = graph.saves.iter().map(|save| moved[save.index()]).collect();
    (!gradients).then(|| Graph { nodes, saves, ..graph.clone() })
}
