//! What is computed twice is computed once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use super::passes::{Draft, Pass, count};
use super::schedule::PlanContext;
use crate::Result;
use crate::graph::{Graph, Node, NodeId, Op, Unary};

/// What is written twice is taken from where it is written first.
pub(super) struct Cse;

impl Pass for Cse {
    fn name(&self) -> &'static str {
        "common subexpressions"
    }

    fn is_on(&self, context: &PlanContext<'_>) -> bool {
        context.options.cse
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        let Cow::Owned(changed) = cse(&draft.graph) else { return Ok(None) };
        let moved = changed.nodes.iter().zip(&draft.graph.nodes).filter(|(new, old)| new.args != old.args || new.guards != old.guards).count();
        let saves = changed.saves.iter().zip(&draft.graph.saves).filter(|(new, old)| new != old).count();
        draft.graph = Cow::Owned(changed);
        Ok(Some(format!("{} of a value that is there already", count(moved + saves, "use"))))
    }
}

/// The graph with every use of a value that an earlier node gives already taken from there. The other node is then needed by nobody.
///
/// The graph is a valid one. Where gradients are asked for, nothing is changed: two equal values have different gradients.
fn cse(graph: &Graph) -> Cow<'_, Graph> {
    let gradients = graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad));
    if gradients {
        return Cow::Borrowed(graph);
    }
    let mut first: HashMap<u64, Vec<NodeId>> = HashMap::new();
    let mut instead = Vec::with_capacity(graph.nodes.len());
    // How many nodes so far change the run. Two readings with one between them are kept apart: a site may have several names, and a run that was
    // ended is read no more.
    let mut changes = 0u32;
    let mut read_after: HashMap<NodeId, u32> = HashMap::new();
    let mut changed: Option<Graph> = None;
    for (id, original) in graph.iter() {
        if original.uses().any(|used| instead[used.index()] != used) {
            let node = &mut changed.get_or_insert_with(|| graph.clone()).nodes[id.index()];
            node.args.iter_mut().chain(node.guards.iter_mut().map(|guard| &mut guard.condition)).for_each(|arg| *arg = instead[arg.index()]);
        }
        let now = changed.as_ref().unwrap_or(graph);
        let node = now.node(id);
        if matches!(node.op, Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. }) {
            changes += 1;
        }
        let written = if matches!(node.op, Op::Get { .. }) { changes } else { 0 };
        let mut found = None;
        if is_function(&node.op) {
            let others = first.entry(hash(node, written)).or_default();
            let same = |other: &&NodeId| {
                let (other, before) = (now.node(**other), read_after.get(*other).copied().unwrap_or(0));
                other.op == node.op && other.args == node.args && other.guards == node.guards && before == written
            };
            found = others.iter().find(same).copied();
            if found.is_none() {
                others.push(id);
                if written > 0 {
                    read_after.insert(id, written);
                }
            }
        }
        instead.push(found.unwrap_or(id));
    }
    match changed {
        None if graph.saves.iter().all(|save| instead[save.index()] == *save) => Cow::Borrowed(graph),
        changed => {
            let mut graph = changed.unwrap_or_else(|| graph.clone());
            graph.saves.iter_mut().for_each(|save| *save = instead[save.index()]);
            Cow::Owned(graph)
        }
    }
}

/// Whether a node gives the same wherever it stands, and does nothing else.
fn is_function(op: &Op) -> bool {
    !op.has_effect()
        && !matches!(op, Op::Grad | Op::Output { .. } | Op::Loop(_) | Op::Item { .. } | Op::Choose | Op::Apply { .. } | Op::Custom { .. })
}

/// Equal where two nodes are equal and as many edits were made before. It differs where they do in anything that many nodes may differ in: else
/// each would be compared with all others.
fn hash(node: &Node, written: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (discriminant(&node.op), &node.args, written).hash(&mut hasher);
    node.guards.iter().for_each(|guard| (guard.condition, guard.when).hash(&mut hasher));
    let hasher = &mut hasher;
    match &node.op {
        Op::Get { at, site } => (at, site).hash(hasher),
        Op::Constant(constant) => constant.hash(hasher),
        Op::Scalar(number) | Op::Full(number) => bits(*number).hash(hasher),
        Op::Unary(unary) => match unary {
            Unary::Powf(exponent) => bits(*exponent).hash(hasher),
            Unary::Clamp(low, high) => (bits(*low), bits(*high)).hash(hasher),
            other => discriminant(other).hash(hasher),
        },
        Op::Binary(binary) => discriminant(binary).hash(hasher),
        Op::Compare(compare) => discriminant(compare).hash(hasher),
        Op::Logic(logic) => discriminant(logic).hash(hasher),
        Op::Reduce { reduce, axis, keep } => (discriminant(reduce), axis, keep).hash(hasher),
        Op::Softmax { axis, log } => (axis, log).hash(hasher),
        Op::CumSum { axis } | Op::Scatter { axis } | Op::Pick { axis } | Op::Gather { axis } | Op::IndexSelect { axis } | Op::Cat { axis } => {
            axis.hash(hasher);
        }
        Op::Permute { order, names } => (order, names).hash(hasher),
        Op::Split { axis, into } => (axis, into).hash(hasher),
        Op::Merge { axis, name } | Op::Rename { axis, name } => (axis, name).hash(hasher),
        Op::Slice(region) | Op::Patch(region) => region.hash(hasher),
        Op::Stack { name } => name.hash(hasher),
        Op::TopK { k, indices } => (k, indices).hash(hasher),
        Op::OneHot { name, size } => (name, size).hash(hasher),
        Op::Randn { seed } => seed.hash(hasher),
        Op::Cast(kind) => discriminant(kind).hash(hasher),
        Op::Call { module } => module.hash(hasher),
        Op::Store { dtype, host } => (dtype, host).hash(hasher),
        Op::MatMul | Op::Where => {}
        // These are never equal.
        Op::Set { .. }
        | Op::Skip { .. }
        | Op::Stop { .. }
        | Op::Output { .. }
        | Op::Grad
        | Op::SetGrad
        | Op::Choose
        | Op::Loop(_)
        | Op::Item { .. }
        | Op::Apply { .. }
        | Op::Custom { .. }
        | Op::Log { .. } => {}
    }
    hasher.finish()
}

/// Equal where two numbers are.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{At, Binary, InvokeId, Region, SiteId, SourceId, Unary, Unused};

    fn graph(nodes: Vec<(Op, Vec<u32>)>, saves: Vec<u32>) -> Graph {
        let node = |(op, args): (Op, Vec<u32>)| Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) };
        Graph {
            sites: vec!["a".into()],
            nodes: nodes.into_iter().map(node).collect(),
            saves: saves.into_iter().map(NodeId).collect(),
            ..Graph::default()
        }
    }

    fn get() -> Op {
        Op::Get { at: At::first(InvokeId(0)), site: SiteId(0) }
    }

    fn set() -> Op {
        Op::Set { at: At::first(InvokeId(0)), site: SiteId(0), region: Region::default(), unused: Unused::Refuse }
    }

    #[test]
    fn equal_values_are_taken_from_the_first() {
        let exp = || Op::Unary(Unary::Exp);
        let add = || Op::Binary(Binary::Add);
        let graph = graph(vec![(get(), vec![]), (exp(), vec![0]), (get(), vec![]), (exp(), vec![2]), (add(), vec![1, 3])], vec![4, 3]);
        let found = cse(&graph);
        assert_eq!(found.node(NodeId(4)).args, [NodeId(1), NodeId(1)]);
        assert_eq!(found.saves, [NodeId(4), NodeId(1)]);
    }

    #[test]
    fn what_is_read_after_an_edit_is_another_value() {
        let graph = graph(vec![(get(), vec![]), (Op::Scalar(1.0), vec![]), (set(), vec![1]), (get(), vec![])], vec![0, 3]);
        assert!(matches!(cse(&graph), Cow::Borrowed(_)));
    }

    #[test]
    fn an_edit_under_another_name_of_the_site_keeps_readings_apart() {
        let mut graph = graph(vec![(get(), vec![]), (Op::Scalar(1.0), vec![]), (set(), vec![1]), (get(), vec![])], vec![0, 3]);
        graph.sites.push("another name of a".into());
        if let Op::Set { site, .. } = &mut graph.nodes[2].op {
            *site = SiteId(1);
        }
        assert!(matches!(cse(&graph), Cow::Borrowed(_)));
    }

    #[test]
    fn gradients_keep_equal_values_apart() {
        let sum = Op::Unary(Unary::Exp);
        let graph = graph(vec![(get(), vec![]), (sum.clone(), vec![0]), (sum, vec![0]), (Op::Grad, vec![1, 2])], vec![3]);
        assert!(matches!(cse(&graph), Cow::Borrowed(_)));
    }
}
