//! What runs on equal prompts have in common: up to where the first of them edits something, they are one.
//!
//! Of runs on the same prompt, everything before a run's first edit is what an untouched run holds there. So the prompt is run once, the base,
//! and every other run branches off: at the layer of its first edit, and, since under a causal mask no position depends on a later one, at the
//! first position that it edits or reads. Runs that branch off at one position form a batch that grows as it goes deeper.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::diverge::{Divergence, Runs};
use super::liveness::Liveness;
use super::order::{Order, ProgramPoint, SitePoint, gives_what_is_there};
use super::pack::Packing;
use super::passes::{Draft, Pass, count};
use super::schedule::{Check, PlanContext, Share};
use super::{Budget, pack};
use crate::Result;
use crate::graph::{Comparable, Graph, InvokeId, NodeId, Op, Span};
use crate::sites::SiteTable;

/// How many positions a batch of branches has at most: enough for large products, and so few that their values stay in the cache.
const POSITIONS: usize = 512;

/// Runs on equal inputs share what they have in common, and the others stand in batches as large as the budget allows.
pub(super) struct Sharing;

impl Pass for Sharing {
    fn name(&self) -> &'static str {
        "shared runs"
    }

    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>> {
        let gradients = draft.graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad));
        let context = PlanContext { can_share: draft.context.options.share && draft.context.can_share && !gradients, ..draft.context };
        draft.shares = share(&draft.graph, draft.table, &mut draft.order, &draft.liveness, &context);
        let branches = draft.shares.iter().map(|share| if let Share::Branch { entries, .. } = share { entries.len() } else { 0 }).sum::<usize>();
        Ok((branches > 0).then(|| format!("{} off from another", count(branches, "run"))))
    }
}

/// Splits batches of runs on equal prompts into a base and branches: returns for each new batch how it shares, and has the order follow.
fn share(graph: &Graph, table: &SiteTable, order: &mut Order, liveness: &Liveness, context: &PlanContext<'_>) -> Vec<Share> {
    // Asking the system for its memory takes longer than the rest of this for a single run.
    let limit = match context.options.budget {
        Budget::Unlimited => usize::MAX,
        _ if graph.invokes.len() < 2 => usize::MAX,
        budget => pack::positions_within(budget.bytes(), table),
    };
    let PlanContext { lengths, longest, can_share_positions, options, .. } = *context;
    let positions = options.positions && can_share_positions;
    let runs = Runs::new(graph, table, order, liveness, lengths, positions);
    let packing = Packing { graph, linked: &runs.linked, longest, limit };
    let sharing = Grouping { graph, table, order, runs: &runs, packing: &packing, limit };
    let mut batches: BTreeMap<usize, Vec<InvokeId>> = BTreeMap::new();
    for (invoke, &batch) in order.batches.iter().enumerate() {
        batches.entry(batch).or_default().push(InvokeId(invoke as u32));
    }
    if batches.is_empty() {
        // What needs no run of the model has a batch all the same.
        batches.insert(0, Vec::new());
    }
    let mut shares = Vec::new();
    // For each invoke where it is before and after its divergence.
    let mut places: HashMap<InvokeId, (usize, Option<(Divergence, usize)>)> = HashMap::new();
    for members in batches.into_values() {
        for members in packing.pieces(members, context.can_share) {
            let base = shares.len();
            let Some(Split { rows, branches }) = context.can_share.then(|| sharing.split(&members)).flatten() else {
                for members in packing.pieces(members, false) {
                    places.extend(members.into_iter().map(|invoke| (invoke, (shares.len(), None))));
                    shares.push(Share::Nothing);
                }
                continue;
            };
            let (checks, reads) = if context.options.cutoff { sharing.checks(&branches) } else { Default::default() };
            shares.push(Share::Base { rows: rows.clone(), keeps: BTreeSet::new(), until: 0, remembers: false, checks, reads });
            places.extend(rows.keys().map(|&invoke| (invoke, (base, None))));
            for Branch { rows, position, members } in branches {
                let here = shares.len();
                let last = members.iter().map(|(_, invoke)| runs.last_stages[invoke.index()]).max().unwrap_or(0);
                if let Share::Base { keeps, until, remembers, .. } = &mut shares[base] {
                    keeps.extend(members.iter().map(|(divergence, _)| divergence.stage));
                    *until = (*until).max(if position > 0 { last.min(table.depth) } else { 0 });
                    *remembers |= position > 0;
                }
                places.extend(members.iter().map(|&(divergence, invoke)| (invoke, (base, Some((divergence, here))))));
                let entries = members.into_iter().map(|(divergence, invoke)| (invoke, divergence.stage)).collect();
                shares.push(Share::Branch { base, rows, from: position, entries });
            }
        }
    }
    let batches = (0..graph.invokes.len()).map(|invoke| places[&InvokeId(invoke as u32)].0).collect();
    (order.points, order.batches) = (points(graph, order, &places), batches);
    shares
}

/// The point of each node, with the batches that `places` says for each invoke before and after its divergence.
fn points(graph: &Graph, order: &Order, places: &HashMap<InvokeId, (usize, Option<(Divergence, usize)>)>) -> Vec<ProgramPoint> {
    let batch_of = |invoke: InvokeId, time: SitePoint, node: Option<NodeId>| match places[&invoke] {
        (_, Some((from, branch))) if (time, node.unwrap_or(NodeId(u32::MAX))) >= (from.time, from.node) => branch,
        (base, _) => base,
    };
    let mut points = Vec::with_capacity(graph.nodes.len());
    // From when on each value can be used. What is computed from a reading at the point of the divergence belongs to the branch.
    let mut known: Vec<Option<(usize, SitePoint)>> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.iter() {
        let point = order.points[id.index()];
        let last = node.uses().filter_map(|used| known[used.index()]).max();
        let visited = match node.op {
            Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } | Op::Stop { at, .. } => Some(at.invoke),
            Op::Output { invoke } => Some(invoke),
            _ => None,
        };
        let (batch, time) = match visited {
            Some(invoke) => {
                let (own, branch) = (batch_of(invoke, point.time, Some(id)), batch_of(invoke, point.time, None));
                // What is read if a condition holds is read in the branch if that is known only there.
                let waits = last.is_some_and(|(batch, _)| batch == branch);
                (if waits { branch } else { own }, point.time)
            }
            None => last.unwrap_or((0, point.time)),
        };
        points.push(ProgramPoint { batch, time, ..point });
        known.push(match visited {
            Some(invoke) if gives_what_is_there(&node.op) => Some((batch_of(invoke, point.time, None), point.time)),
            _ => last,
        });
    }
    points
}

/// A batch as a base and what branches off.
struct Split {
    /// The base's rows for each invoke.
    rows: BTreeMap<InvokeId, Span>,
    branches: Vec<Branch>,
}

struct Branch {
    /// Those of each of its members.
    rows: Span,
    position: usize,
    /// In the order in which they come in.
    members: Vec<(Divergence, InvokeId)>,
}

struct Grouping<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    order: &'a Order,
    runs: &'a Runs,
    packing: &'a Packing<'a>,
    /// How many positions a batch has at most.
    limit: usize,
}

impl Grouping<'_> {
    /// Some runs as a base and what branches off, or `None` where they have nothing in common.
    fn split(&self, members: &[InvokeId]) -> Option<Split> {
        let mut rows_of: HashMap<Vec<Comparable<'_>>, Span> = HashMap::new();
        let mut rows = BTreeMap::new();
        let mut next = 0;
        for &invoke in members {
            let own = *rows_of.entry(self.packing.inputs(invoke)?).or_insert(Span { start: next, len: self.packing.count(invoke) });
            rows.insert(invoke, own);
            next = next.max(own.start + own.len);
        }
        if rows_of.len() == members.len() {
            return None;
        }
        if members.iter().any(|invoke| self.runs.apart[invoke.index()]) {
            return None;
        }
        let mut groups: BTreeMap<(usize, usize), Vec<(Divergence, InvokeId)>> = BTreeMap::new();
        for (&invoke, rows) in &rows {
            if let Some(divergence) = self.runs.divergences[invoke.index()] {
                groups.entry((rows.start, divergence.position)).or_default().push((divergence, invoke));
            }
        }
        let mut branches = Vec::new();
        for ((_, position), mut members) in groups {
            members.sort_by_key(|(divergence, invoke)| (divergence.stage, *invoke));
            let Some(&(_, first)) = members.first() else { continue };
            let rows = rows[&first];
            // The last layer is run for fewer positions where nobody looks into it; those who do stand apart.
            let (before, within) = members.split_at(members.partition_point(|(divergence, _)| divergence.stage < self.table.depth));
            let each = rows.len * self.packing.longest(first).saturating_sub(position).max(1);
            let size = (POSITIONS.min(self.limit) / each).max(1);
            for chunk in before.chunks(size).chain(within.chunks(size)) {
                branches.push(Branch { rows, position, members: chunk.to_vec() });
            }
        }
        Some(Split { rows, branches })
    }

    /// The runs that have one edit only, by the site where it is, and the sites that they read after it.
    fn checks(&self, branches: &[Branch]) -> (BTreeMap<usize, Vec<Check>>, BTreeSet<usize>) {
        let mut checks: BTreeMap<usize, Vec<Check>> = BTreeMap::new();
        let mut reads = BTreeSet::new();
        for &(_, invoke) in branches.iter().flat_map(|branch| &branch.members) {
            if let Some(edit) = self.runs.only_edit[invoke.index()]
                && let Op::Set { site, .. } = self.graph.node(edit).op
                && self.graph.node(edit).guards.is_empty()
            {
                let check = Check { invoke, edit, until: self.runs.last_stages[invoke.index()] };
                checks.entry(self.order.positions[site.index()]).or_default().push(check);
                reads.extend(&self.runs.reads_after[invoke.index()]);
            }
        }
        (checks, reads)
    }
}
