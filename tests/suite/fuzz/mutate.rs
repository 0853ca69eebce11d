//! Graphs that were written by somebody, with something changed.

use nnsight::graph::{At, Guard, InvokeId, Node, NodeId, Op, Region, SiteId, Step, Unary, Unreached, Unused};
use nnsight::prelude::*;
use nnsight::trace::Settings as _;

use super::check::Subject;
use super::numbers::Numbers;
use super::seeds::seeds;

/// One of the seeds with some changes.
pub fn mutate(numbers: &mut Numbers, subjects: &[Subject]) -> Option<(usize, Graph)> {
    let (subject, seed) = numbers.pick(seeds(subjects))?;
    let mut graph = seed.graph.clone();
    for _ in 0..1 + numbers.below(4) {
        change(numbers, &mut graph, &subjects[*subject]);
    }
    Some((*subject, graph))
}

fn change(numbers: &mut Numbers, graph: &mut Graph, subject: &Subject) {
    let count = graph.nodes.len();
    let at = numbers.below(count);
    match numbers.below(14) {
        // An argument is another.
        0 | 1 if count > 1 => {
            let at = 1 + numbers.below(count - 1);
            let other = NodeId(numbers.below(at) as u32);
            let args = graph.nodes[at].args.len();
            if args > 0 {
                graph.nodes[at].args[numbers.below(args)] = other;
            }
        }
        2 | 3 => parameter(numbers, &mut graph.nodes[at].op, &subject.modules),
        4 => repeat(numbers, graph, at),
        5 => remove(graph, at),
        6 | 7 => visit(numbers, graph, at),
        8 => {
            let end = graph.nodes.len() as u32;
            graph.saves.push(NodeId(numbers.below(end as usize) as u32));
        }
        9 if graph.saves.len() > 1 => drop(graph.saves.swap_remove(numbers.below(graph.saves.len()))),
        10 => {
            let site = numbers.pick(&subject.sites).map(|(path, ..)| path.clone());
            let place = numbers.below(graph.sites.len());
            if let (Some(own), Some(site)) = (graph.sites.get_mut(place), site) {
                *own = site;
            }
        }
        11 => invoke(numbers, graph),
        12 if count > 1 => {
            // A branch of a condition, if there is one.
            let conditions = (0..at).filter(|&id| matches!(graph.nodes[id].op, Op::Compare(_) | Op::Logic(_)));
            let conditions = conditions.map(|id| NodeId(id as u32)).collect::<Vec<_>>();
            match numbers.pick(&conditions) {
                Some(&condition) => graph.nodes[at].guards.push(Guard { condition, when: numbers.once_in(2) }),
                None => graph.nodes[at].guards.clear(),
            }
        }
        // What is written is what is read there: an edit that changes nothing.
        _ => {
            let reads = graph.iter().filter(|(_, node)| matches!(node.op, Op::Get { .. })).map(|(id, _)| id).collect::<Vec<_>>();
            if let Some(&read) = numbers.pick(&reads)
                && let Op::Get { at, site } = graph.node(read).op
            {
                let source = graph.node(read).source;
                let op = Op::Set { at, site, region: Region::default(), unused: Unused::Keep };
                graph.nodes.push(Node { op, args: vec![read], guards: vec![], source });
            }
        }
    }
}

/// Another axis, region, number or module.
fn parameter(numbers: &mut Numbers, op: &mut Op, modules: &[String]) {
    let axis = numbers.below(5);
    let step = Step {
        axis: numbers.below(4) as u8,
        start: numbers.below(9) as i64 - 4,
        end: numbers.once_in(2).then(|| numbers.below(9) as i64 - 4),
        single: numbers.once_in(2),
    };
    match op {
        Op::Softmax { axis: own, .. }
        | Op::CumSum { axis: own }
        | Op::Merge { axis: own, .. }
        | Op::Rename { axis: own, .. }
        | Op::Scatter { axis: own }
        | Op::Pick { axis: own }
        | Op::Gather { axis: own }
        | Op::IndexSelect { axis: own }
        | Op::Split { axis: own, .. }
        | Op::Cat { axis: own } => *own = axis,
        Op::Reduce { axis: own, keep, .. } => (*own, *keep) = (numbers.once_in(3).then_some(axis), numbers.once_in(2)),
        Op::Slice(region) | Op::Patch(region) | Op::Set { region, .. } => match numbers.below(3) {
            0 => region.0.clear(),
            1 => region.0 = vec![step],
            _ => region.0.push(step),
        },
        Op::Scalar(number) | Op::Full(number) => *number = numbers.one(&[0.0, -0.0, 1.0, -1.0, 1e30, 1e-30, 2.5]),
        Op::Unary(unary) => {
            *unary = numbers.one(&[Unary::Neg, Unary::Exp, Unary::Ln, Unary::Sqrt, Unary::Gelu, Unary::Powf(2.0), Unary::Clamp(1.0, -1.0)])
        }
        Op::TopK { k, indices } => (*k, *indices) = (numbers.below(9), numbers.once_in(2)),
        Op::OneHot { size, .. } => *size = numbers.below(70),
        Op::Call { module } => module.clone_from(numbers.pick(modules).unwrap_or(&String::new())),
        Op::Item { index } => *index = numbers.below(3),
        Op::Loop(body) if !body.nodes.is_empty() => {
            let inner = numbers.below(body.nodes.len());
            parameter(numbers, &mut body.nodes[inner].op, modules);
        }
        other => *other = Op::Unary(Unary::Neg),
    }
}

/// A node once more, or on itself.
fn repeat(numbers: &mut Numbers, graph: &mut Graph, at: usize) {
    let mut node = graph.nodes[at].clone();
    if numbers.once_in(2)
        && let Some(arg) = node.args.first_mut()
        && !node.op.has_effect()
    {
        *arg = NodeId(at as u32);
    }
    graph.nodes.push(node);
    if numbers.once_in(2) {
        graph.saves.push(NodeId(graph.nodes.len() as u32 - 1));
    }
}

/// The graph without a node: what used it uses its first argument.
fn remove(graph: &mut Graph, at: usize) {
    if graph.nodes.len() < 2 {
        return;
    }
    let instead = graph.nodes[at].args.first().map_or(0, |arg| arg.0);
    let moved = |id: NodeId| match id.index().cmp(&at) {
        std::cmp::Ordering::Less => id,
        std::cmp::Ordering::Equal => NodeId(instead),
        std::cmp::Ordering::Greater => NodeId(id.0 - 1),
    };
    graph.nodes.remove(at);
    for node in &mut graph.nodes {
        node.args.iter_mut().chain(node.guards.iter_mut().map(|guard| &mut guard.condition)).for_each(|id| *id = moved(*id));
    }
    graph.saves.iter_mut().for_each(|id| *id = moved(*id));
}

/// Another moment of a visit, or another end of it.
fn visit(numbers: &mut Numbers, graph: &mut Graph, at: usize) {
    let (invokes, sites) = (graph.invokes.len(), graph.sites.len());
    let source = graph.nodes[at].source;
    let arg = graph.nodes[at].args.first().copied();
    let (Op::Get { at: visit, site } | Op::Set { at: visit, site, .. } | Op::Skip { at: visit, site, .. } | Op::Stop { at: visit, site }) =
        &mut graph.nodes[at].op
    else {
        return;
    };
    match numbers.below(6) {
        0 => visit.invoke = InvokeId(numbers.below(invokes) as u32),
        1 => visit.step = numbers.below(3) as u32,
        2 => *site = SiteId(numbers.below(sites) as u32),
        3 => visit.unreached = numbers.one(&[Unreached::Refuse, Unreached::Drop]),
        4 => {
            let op = Op::Stop { at: *visit, site: *site };
            graph.nodes.push(Node { op, args: vec![], guards: vec![], source });
        }
        _ => {
            let (visit, site) = (*visit, *site);
            if let (Op::Set { .. }, Some(arg)) = (&graph.nodes[at].op, arg) {
                let unused = numbers.one(&[Unused::Refuse, Unused::Keep, Unused::Sweep, Unused::Drop]);
                graph.nodes[at] = Node { op: Op::Skip { at: visit, site, unused }, args: vec![arg], guards: vec![], source };
            }
        }
    }
}

/// Another invoke, or another prompt of one.
fn invoke(numbers: &mut Numbers, graph: &mut Graph) {
    let one = numbers.below(graph.invokes.len());
    match numbers.below(4) {
        0 => {
            let copy = graph.invokes[one].clone();
            graph.invokes.push(copy);
            // Somebody reads it as the other.
            let readings = graph.nodes.iter().filter(|node| matches!(node.op, Op::Get { .. })).cloned().collect::<Vec<_>>();
            if let Some(mut node) = numbers.pick(&readings).cloned() {
                if let Op::Get { at, .. } = &mut node.op {
                    *at = At { invoke: InvokeId(graph.invokes.len() as u32 - 1), ..*at };
                }
                node.guards.clear();
                graph.nodes.push(node);
                graph.saves.push(NodeId(graph.nodes.len() as u32 - 1));
            }
        }
        1 => {
            let length = 1 + numbers.below(6);
            let tokens = (0..length).map(|_| numbers.below(64) as u32).collect();
            if let Some(prompt) = graph.invokes[one].inputs.first_mut() {
                *prompt = Prompt::Tokens(tokens).into();
            }
        }
        2 => {
            let other = numbers.below(graph.invokes.len());
            graph.invokes[one].inputs = graph.invokes[other].inputs.clone();
        }
        _ => graph.invokes[one].rollout = numbers.once_in(2).then(|| Generation::default().max_new_tokens(1 + numbers.below(3)).rollout()),
    }
}
