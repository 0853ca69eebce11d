//! One product for a module that is applied by hand to many values: they wait for each other where nothing in the model waits for them.

use std::collections::HashSet;

use super::Budget;
use super::order::{Order, SitePoint};
use super::passes::{Draft, Pass, count};
use super::schedule::PlanContext;
use crate::Result;
use crate::graph::{Facts, Graph, NodeId, Op};

/// Modules that are applied by hand to many values are applied to all of them at once.
pub(super) struct BatchCalls;

impl Pass for BatchCalls {
    fn name(&self) -> &'static str {
        "calls in one product"
    }

    fn is_on(&self, context: &PlanContext<'_>) -> bool {
        context.options.batch_calls
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        let PlanContext { facts, options, .. } = draft.context;
        let waiting = batch_calls(&draft.graph, &mut draft.order, &draft.liveness.needed, facts, options.budget);
        Ok((waiting > 0).then(|| format!("{} at the end of their pass", count(waiting, "node"))))
    }
}

/// Has the applications of modules wait for the end of their pass, where only what is saved depends on them, and where together they fit into
/// the budget; returns how many nodes wait.
fn batch_calls(graph: &Graph, order: &mut Order, needed: &[bool], facts: &[Facts], budget: Budget) -> usize {
    let is_call = |id: NodeId| matches!(graph.node(id).op, Op::Call { .. });
    let gradients = graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad));
    if facts.len() != graph.nodes.len() || gradients || graph.iter().filter(|(id, _)| needed[id.index()] && is_call(*id)).count() < 2 {
        return 0;
    }
    let bytes = budget.bytes();
    // From the last to the first: whether nothing in the model depends on it.
    let mut free = vec![true; graph.nodes.len()];
    for (id, node) in graph.iter().rev() {
        let holds_up = node.op.has_effect() || matches!(node.op, Op::Output { .. }) || !free[id.index()];
        if holds_up && needed[id.index()] {
            node.args.iter().for_each(|arg| free[arg.index()] = false);
        }
        if needed[id.index()] {
            node.guards.iter().for_each(|guard| free[guard.condition.index()] = false);
        }
    }
    let continuing = graph.invokes.iter().zip(&order.batches).filter(|(invoke, _)| invoke.rollout.is_some());
    let continued = continuing.map(|(_, &batch)| batch).collect::<HashSet<_>>();
    let mut waits = vec![false; graph.nodes.len()];
    let mut size = 0;
    for (id, node) in graph.iter().filter(|(id, _)| needed[id.index()]) {
        let from_args = node.args.iter().any(|arg| waits[arg.index()]);
        let starts = is_call(id) && free[id.index()] && node.guards.is_empty() && !continued.contains(&order.points[id.index()].batch);
        waits[id.index()] = from_args || starts;
        if waits[id.index()] {
            let entries = facts[id.index()].axes.iter().try_fold(1, |product: usize, axis| product.checked_mul(axis.size?));
            size += entries.map_or(usize::MAX / 8, |entries| entries * size_of::<f32>());
            if size > bytes {
                return 0;
            }
        }
    }
    for (id, _) in graph.iter().filter(|(id, _)| waits[id.index()]) {
        let point = &mut order.points[id.index()];
        // What waits for a value of another batch waits there already.
        point.time = SitePoint::END;
    }
    for (id, node) in graph.iter().filter(|(id, _)| waits[id.index()]) {
        let last = node.args.iter().map(|arg| order.points[arg.index()]).max();
        order.points[id.index()] = order.points[id.index()].max(last.unwrap_or_default());
    }
    waits.iter().filter(|waits| **waits).count()
}

/// Rows that make a product about as fast as a larger one, whose result stays in the cache for whoever uses it.
const ROWS: usize = 128;

/// Puts what runs after a pass in order.
pub(super) struct Portions<'a> {
    graph: &'a Graph,
    facts: &'a [Facts],
    /// How many applications lie before each node of a pass.
    levels: Vec<u32>,
    /// Which portion each node of a pass belongs to.
    portions: Vec<usize>,
}

impl<'a> Portions<'a> {
    /// Without facts, nothing is put in another order.
    pub fn new(graph: &'a Graph, facts: &'a [Facts]) -> Self {
        Portions { graph, facts, levels: vec![0; facts.len()], portions: vec![0; facts.len()] }
    }

    /// Puts what runs after a pass into the order in which applications of one module come side by side, as many as make a large product, and
    /// what depends on those directly after them.
    pub fn side_by_side(&mut self, nodes: &mut [NodeId]) {
        if self.facts.is_empty() || nodes.is_empty() {
            return;
        }
        let graph = self.graph;
        let is_call = |id: NodeId| matches!(graph.node(id).op, Op::Call { .. });
        let Portions { levels, portions, .. } = self;
        let mut rows = 0;
        nodes.sort_unstable();
        for &id in &*nodes {
            let node = graph.node(id);
            levels[id.index()] = node.uses().map(|used| levels[used.index()] + u32::from(is_call(used))).max().unwrap_or(0);
            portions[id.index()] = node.uses().map(|used| portions[used.index()]).max().unwrap_or(0);
            if is_call(id) && levels[id.index()] == 0 {
                portions[id.index()] = portions[id.index()].max(rows / ROWS);
                let axes = &self.facts[id.index()].axes;
                rows += axes.iter().take(axes.len().saturating_sub(1)).map(|axis| axis.size.unwrap_or(1)).product::<usize>();
            }
        }
        nodes.sort_by_key(|id| {
            let module = match &graph.node(*id).op {
                Op::Call { module } => Some(module),
                _ => None,
            };
            (portions[id.index()], levels[id.index()], module, *id)
        });
        // Of another pass these are values that are there.
        nodes.iter().for_each(|id| (levels[id.index()], portions[id.index()]) = (0, 0));
    }
}
