//! What a run will take, found from its plan and held against the limits before anything is computed.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use crate::graph::{AxisRole, Facts, Graph, Inferred, InvokeId, Limits, NodeId, Op, Source};
use crate::plan::{PassBatch, Plan, Share};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// Values as wide as the widest of a layer that a pass holds at a time for each position: those of a gated MLP, and the residual stream.
const HELD: usize = 6;

/// What a run is known by before it runs.
pub(super) struct Estimate<'a> {
    pub graph: &'a Graph,
    pub table: &'a SiteTable,
    pub plan: &'a Plan,
    pub inferred: &'a Inferred,
    /// The numbers of tokens of each prompt of each invoke.
    pub lengths: &'a [Vec<usize>],
    /// The first site of the model's last stage, if that is run for some positions only.
    pub head: Option<usize>,
    pub limits: &'a Limits,
}

/// What loops whose end depends on values take as they go round.
#[derive(Debug, Default)]
pub(super) struct Meter {
    limits: Limits,
    work: Cell<usize>,
    rounds: Cell<usize>,
}

impl Meter {
    /// Counts a round of a loop.
    ///
    /// # Errors
    /// [`Error::OverLimit`] once the run has more of them, or computes more in them, than it may.
    pub fn round(&self, inside: &Inferred, parameters: usize, source_line: &Option<Source>) -> Result<()> {
        let (work, rounds, _) = inside.round(parameters);
        self.work.set(self.work.get().saturating_add(work));
        self.rounds.set(self.rounds.get().saturating_add(rounds).saturating_add(1));
        over("loop", "rounds of loops", self.rounds.get(), self.limits.rounds, source_line)?;
        over("loop", "entries to compute", self.work.get(), self.limits.work, source_line)
    }
}

fn over(op: &str, what: &'static str, found: usize, limit: usize, source_line: &Option<Source>) -> Result<()> {
    match found <= limit {
        true => Ok(()),
        false => Err(Error::OverLimit { op: op.to_string(), what, found, limit, source_line: source_line.clone() }),
    }
}

/// The values that exist at a moment, as storages: a part of a value holds all of it.
struct Live {
    /// Which node's storage each node's value is in.
    storage: Vec<NodeId>,
    /// What those hold that are computed in one pass with their user: the storages of what they are computed from.
    leaves: HashMap<NodeId, Vec<NodeId>>,
    /// The bytes of each node's own storage, and how many values are in it.
    held: Vec<(usize, usize)>,
    bytes: usize,
}

impl Live {
    fn keep(&mut self, id: NodeId, storage: NodeId, bytes: usize) {
        self.storage[id.index()] = storage;
        self.hold(storage, bytes);
    }

    /// Keeps what a node is computed from, which is only then.
    fn keep_leaves(&mut self, id: NodeId, args: &[NodeId]) {
        let mut leaves = Vec::new();
        for arg in args {
            match self.leaves.get(arg) {
                Some(others) => leaves.extend(others),
                None => leaves.push(self.storage[arg.index()]),
            }
        }
        leaves.sort_unstable();
        leaves.dedup();
        leaves.iter().for_each(|&leaf| self.hold(leaf, 0));
        self.leaves.insert(id, leaves);
    }

    fn hold(&mut self, storage: NodeId, bytes: usize) {
        let (held, values) = &mut self.held[storage.index()];
        if *values == 0 {
            *held = bytes;
            self.bytes = self.bytes.saturating_add(bytes);
        }
        *values += 1;
    }

    fn release(&mut self, id: NodeId) {
        self.let_go(self.storage[id.index()]);
        self.leaves.remove(&id).into_iter().flatten().for_each(|leaf| self.let_go(leaf));
    }

    fn let_go(&mut self, storage: NodeId) {
        let (held, values) = &mut self.held[storage.index()];
        if *values == 1 {
            self.bytes = self.bytes.saturating_sub(*held);
        }
        *values = values.saturating_sub(1);
    }
}

impl Estimate<'_> {
    /// Holds the run against the limits.
    ///
    /// # Errors
    /// [`Error::OverLimit`] with the line at which a limit is passed; [`Error::TooLarge`] for what no line is to blame for.
    pub fn check(&self) -> Result<Meter> {
        self.check_token_layers()?;
        let Estimate { graph, inferred, limits, .. } = *self;
        let constants = graph.constants.iter().map(|constant| constant.tensor.elem_count()).fold(0, usize::saturating_add);
        let mut live = Live {
            storage: graph.iter().map(|(id, _)| id).collect(),
            leaves: HashMap::new(),
            held: vec![(0, 0); graph.nodes.len()],
            // They are kept to the end, and in the graph beside.
            bytes: constants.saturating_mul(8),
        };
        let gradients = graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad));
        let mut uses = self.plan.uses.clone();
        let (mut work, mut rounds) = (0usize, 0usize);
        for planned in &self.plan.batches {
            let batch = self.batch(planned);
            let pass = self.pass(planned, batch, gradients);
            let mut last_visit = None;
            let visits = planned.visits.iter().map(|visit| (visit.node, Some(visit.site), visit.step));
            let outside = |nodes: &[NodeId]| nodes.iter().map(|&id| (id, None, 0)).collect::<Vec<_>>();
            for (id, site, step) in outside(&planned.before).into_iter().chain(visits).chain(outside(&planned.after)) {
                let (node, cost) = (graph.node(id), &inferred.costs[id.index()]);
                let looked_at = site.map_or(0, |site| self.whole(planned, batch, site));
                // Whoever comes after the first finds what a site holds computed.
                let visit = site.map(|site| (step, site));
                let first = if visit != last_visit { looked_at } else { 0 };
                last_visit = visit;
                let own = self.bytes(planned, id, site);
                let is_part = matches!(node.op, Op::Slice(_) | Op::Rename { .. } | Op::Log { .. } | Op::Permute { .. });
                let storage = node.args.first().filter(|_| is_part).map_or(id, |arg| live.storage[arg.index()]);
                work = work.saturating_add(cost.work).saturating_add(first);
                rounds = rounds.saturating_add(cost.rounds);
                let new = if storage == id { own } else { 0 };
                let beside = cost.beside.saturating_add(looked_at.saturating_mul(8)).saturating_add(pass);
                let bytes = live.bytes.saturating_add(new).saturating_add(beside);
                let source = graph.source(id);
                for (what, found, limit) in [
                    ("bytes in use at one time", bytes, limits.bytes),
                    ("rounds of loops", rounds, limits.rounds),
                    ("entries to compute", work, limits.work),
                ] {
                    over(&node.op.name(), what, found, limit, &source)?;
                }
                if uses[id.index()] > 0 {
                    live.keep(id, storage, own);
                    if self.plan.fused[id.index()] {
                        live.keep_leaves(id, &node.args);
                    }
                }
                for &arg in node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)) {
                    let left = &mut uses[arg.index()];
                    *left = left.saturating_sub(1);
                    // What gradients go back through is held until they have.
                    if *left == 0 && !gradients {
                        live.release(arg);
                    }
                }
            }
        }
        Ok(Meter { limits: *limits, work: Cell::new(work), rounds: Cell::new(rounds) })
    }

    fn check_token_layers(&self) -> Result<()> {
        let (what, limit) = ("token-layers (layers times positions)", self.limits.token_layers);
        let layers = self.plan.token_layers(self.graph, self.table, self.lengths);
        match layers.into_iter().fold(0, usize::saturating_add) {
            found if found > limit => Err(Error::TooLarge { what, found, limit, source_line: None }),
            _ => Ok(()),
        }
    }

    /// Rows and positions of a batch.
    fn batch(&self, planned: &PassBatch) -> (usize, usize) {
        let own = |invoke: &InvokeId| &self.lengths[invoke.index()];
        let members: Vec<InvokeId> = match &planned.share {
            // Equal prompts are in it once.
            Share::Base { rows, .. } => rows.iter().map(|(invoke, rows)| (rows.start, *invoke)).collect::<BTreeMap<_, _>>().into_values().collect(),
            Share::Nothing | Share::Branch { .. } => {
                planned.invokes.iter().copied().filter(|invoke| !self.graph.invokes[invoke.index()].all_inputs).collect()
            }
        };
        let rows = members.iter().map(|invoke| own(invoke).len()).fold(0, usize::saturating_add);
        let width = members.iter().flat_map(own).copied().max().unwrap_or(0);
        (rows, width)
    }

    /// The bytes of a pass over a batch, beside its values. Gradients go back through those of all layers, and through all scores.
    fn pass(&self, planned: &PassBatch, (rows, width): (usize, usize), gradients: bool) -> usize {
        let layer = rows.saturating_mul(width).saturating_mul(self.table.widest()).saturating_mul(HELD);
        if !gradients {
            return layer.saturating_mul(size_of::<f32>());
        }
        let sites = self.table.sites().iter().enumerate();
        let scores = sites.filter(|(_, site)| site.facts.along(|role| role == AxisRole::Key).is_some());
        let scores = scores.map(|(site, _)| self.whole(planned, (rows, width), site)).max().unwrap_or(0);
        layer.saturating_add(scores.saturating_mul(3)).saturating_mul(self.table.depth.max(1)).saturating_mul(size_of::<f32>())
    }

    /// The entries that a site holds for all rows of a batch: whoever looks at one has all of them computed.
    fn whole(&self, planned: &PassBatch, (rows, width): (usize, usize), site: usize) -> usize {
        let is_head = self.head.is_some_and(|head| self.table.rank(site) >= self.table.rank(head));
        let seen = planned.window.filter(|_| is_head).map_or(width, |window| window.count().min(width));
        let sizes = self.table.sites()[site].facts.axes.iter().map(|axis| match axis.role {
            AxisRole::Row => rows,
            AxisRole::Position | AxisRole::Query => seen,
            AxisRole::Key => width,
            _ => axis.size.unwrap_or(1),
        });
        sizes.fold(1, usize::saturating_mul)
    }

    /// The bytes of a node's value: of a reading at the head, those of the positions that the head is run for.
    fn bytes(&self, planned: &PassBatch, id: NodeId, site: Option<usize>) -> usize {
        let bytes = self.inferred.costs[id.index()].bytes;
        let is_head = site.zip(self.head).is_some_and(|(site, head)| self.table.rank(site) >= self.table.rank(head));
        let positions = |facts: &Facts| facts.along(|role| role == AxisRole::Position).and_then(|axis| facts.axes[axis].size);
        match (planned.window, positions(&self.inferred.facts[id.index()])) {
            (Some(window), Some(width)) if is_head && matches!(self.graph.node(id).op, Op::Get { .. }) => {
                bytes / width.max(1) * window.count().min(width)
            }
            _ => bytes,
        }
    }
}
