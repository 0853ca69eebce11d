//! Whether a gradient can arrive: there must be a way from the loss back to the value, through operations that have a gradient.

use std::collections::HashMap;

use super::order::Order;
use super::passes::{Draft, Pass};
use crate::graph::{At, Graph, InvokeId, KindTag, NodeId, Op, Reduce};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// Every gradient that is needed can arrive, or is refused.
pub(super) struct Gradients;

impl Pass for Gradients {
    fn name(&self) -> &'static str {
        "gradients"
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        check(&draft.graph, draft.table, &draft.order, &draft.liveness.needed)?;
        Ok(None)
    }
}

/// Checks every gradient that is needed.
///
/// # Errors
/// [`Error::NoGradient`] with the reason and the line.
fn check(graph: &Graph, table: &SiteTable, order: &Order, needed: &[bool]) -> Result<()> {
    let wanted = graph.iter().filter(|(id, node)| needed[id.index()] && matches!(node.op, Op::Grad | Op::SetGrad));
    let mut by_loss: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
    wanted.for_each(|(id, node)| by_loss.entry(node.args[1]).or_default().push(id));
    if by_loss.is_empty() {
        return Ok(());
    }
    let mut run_order = graph.iter().map(|(id, _)| id).collect::<Vec<_>>();
    run_order.sort_by_key(|id| std::cmp::Reverse((order.points[id.index()], *id)));
    let mut asked = vec![false; graph.nodes.len()];
    by_loss.values().flatten().for_each(|id| asked[graph.node(*id).args[0].index()] = true);
    let back = Back { graph, table, order, run_order: &run_order, asked: &asked };
    let losses = by_loss.keys().copied().collect::<Vec<_>>();
    let mut missing: Option<NodeId> = None;
    for some in losses.chunks(Losses::COUNT) {
        let needs = back.needs(some, |op| stops(op).is_none());
        for (place, loss) in some.iter().enumerate() {
            let without = by_loss[loss].iter().filter(|id| !needs[graph.node(**id).args[0].index()].has(place));
            missing = without.copied().chain(missing).min();
        }
    }
    let Some(id) = missing else { return Ok(()) };
    let (of, loss) = (graph.node(id).args[0], graph.node(id).args[1]);
    let reason = match back.needs(&[loss], |_| true)[of.index()].has(0) {
        true => {
            let stopping = graph.nodes.iter().filter(|node| !matches!(node.op, Op::Grad) && stops(&node.op).is_some());
            let mut names = stopping.map(|node| format!("`{}`", node.op.name())).collect::<Vec<_>>();
            names.sort();
            names.dedup();
            format!("on every way back from the loss stands an operation that has none ({})", names.join(", "))
        }
        false => "the loss does not depend on this value".to_string(),
    };
    Err(Error::NoGradient { reason, source_line: graph.source(id) })
}

/// Says that no gradient comes back through an operation.
fn stops(op: &Op) -> Option<()> {
    let constant = match op {
        Op::Compare(_)
        | Op::Logic(_)
        | Op::OneHot { .. }
        | Op::Full(_)
        | Op::Randn { .. }
        | Op::Output { .. }
        | Op::Grad
        | Op::TopK { indices: true, .. }
        | Op::Reduce { reduce: Reduce::ArgMax | Reduce::ArgMin, .. } => true,
        Op::Cast(kind) => *kind != KindTag::Float,
        _ => false,
    };
    constant.then_some(())
}

/// Some of several losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Losses([u64; 4]);

impl Losses {
    const COUNT: usize = 256;

    fn one(place: usize) -> Self {
        let mut losses = Losses::default();
        losses.0[place / 64] = 1 << (place % 64);
        losses
    }

    fn has(self, place: usize) -> bool {
        self.0[place / 64] & 1 << (place % 64) != 0
    }

    fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    fn add(&mut self, other: Losses) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }
}

/// The way back from losses.
struct Back<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    order: &'a Order,
    /// The nodes, the last first.
    run_order: &'a [NodeId],
    /// Whether a gradient with respect to a node is asked for.
    asked: &'a [bool],
}

impl Back<'_> {
    /// For each value the losses that depend on it, going back only through operations that `passes` lets through.
    fn needs(&self, losses: &[NodeId], passes: impl Fn(&Op) -> bool) -> Vec<Losses> {
        let graph = self.graph;
        let mut needs = vec![Losses::default(); graph.nodes.len()];
        losses.iter().enumerate().for_each(|(place, loss)| needs[loss.index()].add(Losses::one(place)));
        let mut model = Model::new(graph, self.table);
        for &id in self.run_order {
            let node = graph.node(id);
            let mut own = needs[id.index()];
            match node.op {
                Op::Get { at, site } => {
                    let site = self.order.positions[site.index()];
                    if self.asked[id.index()] {
                        // The model goes on with it too.
                        needs[id.index()].add(model.written(at, site));
                    }
                    if !own.is_empty() {
                        model.read(at, site, own);
                    }
                    continue;
                }
                Op::Set { at, site, .. } | Op::Skip { at, site, .. } => {
                    let site = self.order.positions[site.index()];
                    own = model.written(at, site);
                    if let Op::Set { region, .. } = &node.op {
                        // What replaces everything that goes on from here leaves nothing of what was there.
                        let once = graph.invokes[at.invoke.index()].rollout.is_none() && node.guards.is_empty();
                        if once && region.is_whole() && self.table.sites()[site].is_residual_boundary {
                            model.replaced(at.invoke);
                        }
                    }
                }
                ref op if !passes(op) => continue,
                _ => {}
            }
            if !own.is_empty() {
                node.args.iter().for_each(|arg| needs[arg.index()].add(own));
            }
        }
        needs
    }
}

/// The losses that depend on what the model holds, by who holds it.
struct Model<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    /// How many invokes see all prompts.
    seeing_all: usize,
    /// For each invoke what its own readings need.
    own: HashMap<InvokeId, Wanted>,
    /// What is needed by readings of invokes that see all prompts.
    of_all: Wanted,
    /// What is needed by any reading: what an invoke that sees all prompts writes is read by all.
    anywhere: Wanted,
}

impl<'a> Model<'a> {
    fn new(graph: &'a Graph, table: &'a SiteTable) -> Self {
        let seeing_all = graph.invokes.iter().filter(|invoke| invoke.all_inputs).count();
        Model { graph, table, seeing_all, own: HashMap::new(), of_all: Wanted::default(), anywhere: Wanted::default() }
    }

    fn read(&mut self, at: At, site: usize, losses: Losses) {
        let wanted = match self.graph.sees_all(at.invoke) {
            true => &mut self.of_all,
            false => self.own.entry(at.invoke).or_default(),
        };
        wanted.add(at.step, site, losses);
        if self.seeing_all > 0 {
            self.anywhere.add(at.step, site, losses);
        }
    }

    /// The losses that depend on what is written at a site.
    fn written(&mut self, at: At, site: usize) -> Losses {
        if self.graph.sees_all(at.invoke) {
            return self.anywhere.reached(self.table, at.step, site);
        }
        let mut losses = self.of_all.reached(self.table, at.step, site);
        if let Some(own) = self.own.get_mut(&at.invoke) {
            losses.add(own.reached(self.table, at.step, site));
        }
        losses
    }

    /// Nothing goes on of what an invoke held before.
    fn replaced(&mut self, invoke: InvokeId) {
        match self.graph.sees_all(invoke) {
            true if self.seeing_all == 1 => self.anywhere = Wanted::default(),
            // What another of them held goes on.
            true => {}
            false => drop(self.own.remove(&invoke)),
        }
    }
}

/// The losses that depend on what is read from now on.
#[derive(Default)]
struct Wanted {
    step: u32,
    sites: HashMap<usize, Losses>,
    /// Those that depend on something at a later step.
    later: Losses,
}

impl Wanted {
    fn at_step(&mut self, step: u32) {
        if self.step != step {
            self.step = step;
            for (_, losses) in self.sites.drain() {
                self.later.add(losses);
            }
        }
    }

    fn add(&mut self, step: u32, site: usize, losses: Losses) {
        self.at_step(step);
        self.sites.entry(site).or_default().add(losses);
    }

    /// The losses that depend on what is held at a site. No gradient flows through the choice of a token, but through keys and values.
    fn reached(&mut self, table: &SiteTable, step: u32, from: usize) -> Losses {
        self.at_step(step);
        let mut losses = self.later;
        for (&site, wanted) in &self.sites {
            if site == from || table.reaches(from, site) {
                losses.add(*wanted);
            }
        }
        losses
    }
}
