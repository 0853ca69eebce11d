//! What runs on equal prompts have in common: up to where the first of them edits something, they are one.
//!
//! Of runs on the same prompt, everything before a run's first edit is what an untouched run holds there. So the prompt is run once, the base,
//! and every other run branches off: at the layer of its first edit, and, since under a causal mask no position depends on a later one, at the
//! first position that it edits or reads. Runs that branch off at one position form a batch that grows as it goes deeper.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Budget;
use super::order::{Moment, Order, Time};
use super::positions::{self, Positions};
use super::reach::Reach;
use super::schedule::{Check, Circumstances, Share};
use crate::graph::{Chat, Graph, InvokeId, NodeId, Op, Prompt, Region, Span};
use crate::module::SiteTable;

/// How many positions a batch of branches has at most: enough for large products, and so few that their values stay in the cache.
const POSITIONS: usize = 512;

/// How many positions of padding cost less than another pass, which reads all weights again. A batch may have more where they are a quarter of it.
const PADDING: usize = 32;

/// How many positions fit into so many bytes: of each there are about sixteen values as wide as the residual stream at a time.
fn positions_within(bytes: usize, table: &SiteTable) -> usize {
    (bytes / (16 * table.widest() * size_of::<f32>())).max(1)
}

/// Where a run stops being the base's.
#[derive(Clone, Copy, Debug)]
struct Divergence {
    time: Time,
    node: NodeId,
    stage: usize,
    /// The first position that it edits or reads from there on.
    position: usize,
}

/// Splits waves of runs on equal prompts into a base and branches: gives for each new wave how it shares, and has the order follow.
pub(super) fn share(graph: &Graph, table: &SiteTable, order: &mut Order, reach: &Reach, circumstances: &Circumstances<'_>) -> Vec<Share> {
    let count = order.waves.iter().max().map_or(1, |last| last + 1);
    let mut last_stages: HashMap<InvokeId, usize> = HashMap::new();
    for (_, node) in graph.iter().filter(|(id, _)| reach.needed[id.index()]) {
        if let Op::Get { at, site } | Op::Set { at, site, .. } | Op::Skip { at, site, .. } = node.op {
            let stage = table.stage_of(order.positions[site.index()]).unwrap_or(0);
            let last = last_stages.entry(at.invoke).or_default();
            *last = stage.max(*last);
        }
    }
    // Asking the system for its memory takes longer than the rest of this for a single run.
    let limit = match circumstances.budget {
        Budget::Unlimited => usize::MAX,
        _ if graph.invokes.len() < 2 => usize::MAX,
        budget => positions_within(budget.bytes(), table),
    };
    let Circumstances { lengths, longest, positions, .. } = *circumstances;
    let sharing = Sharing { graph, table, order, reach, lengths, longest, positions, last_stages, limit };
    let mut shares = Vec::new();
    // For each invoke where it is before and after its divergence.
    let mut places: HashMap<InvokeId, (usize, Option<(Divergence, usize)>)> = HashMap::new();
    for wave in 0..count {
        let members = (0..graph.invokes.len()).filter(|&invoke| sharing.order.waves[invoke] == wave).map(|invoke| InvokeId(invoke as u32));
        for members in sharing.pieces(members.collect(), circumstances.shares) {
            let base = shares.len();
            let Some(Split { rows, branches }) = sharing.split(&members).filter(|_| circumstances.shares) else {
                for members in sharing.pieces(members, false) {
                    places.extend(members.into_iter().map(|invoke| (invoke, (shares.len(), None))));
                    shares.push(Share::Nothing);
                }
                continue;
            };
            let checks = if circumstances.cutoff { sharing.checks(&branches) } else { BTreeMap::new() };
            shares.push(Share::Base { rows: rows.clone(), keeps: BTreeSet::new(), until: 0, remembers: false, checks });
            places.extend(rows.keys().map(|&invoke| (invoke, (base, None))));
            for Branch { rows, position, members } in branches {
                let here = shares.len();
                let last = sharing.last_stage(&members);
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
    let wave_of = |invoke: InvokeId, time: Time, node: Option<NodeId>| match places[&invoke] {
        (_, Some((from, branch))) if (time, node.unwrap_or(NodeId(u32::MAX))) >= (from.time, from.node) => branch,
        (base, _) => base,
    };
    let moments = graph.iter().map(|(id, node)| {
        let moment = order.moments[id.index()];
        let at = match node.op {
            Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } | Op::Stop { at, .. } => Some(at.invoke),
            Op::Tokens { invoke } => Some(invoke),
            _ => None,
        };
        match at {
            Some(invoke) => Moment { wave: wave_of(invoke, moment.time, Some(id)), ..moment },
            None => {
                let last = order.needs[id.index()].iter().map(|&(invoke, time)| (wave_of(invoke, time, None), time)).max();
                last.map_or(Moment { wave: 0, ..moment }, |(wave, time)| Moment { wave, time, ..moment })
            }
        }
    });
    let moments = moments.collect::<Vec<_>>();
    let waves = (0..graph.invokes.len()).map(|invoke| places[&InvokeId(invoke as u32)].0).collect();
    (order.moments, order.waves) = (moments, waves);
    shares
}

/// A wave as a base and what branches off.
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

struct Sharing<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    order: &'a Order,
    reach: &'a Reach,
    lengths: &'a [Option<usize>],
    longest: &'a [usize],
    /// Whether positions are shared too.
    positions: bool,
    /// The last stage that each run visits.
    last_stages: HashMap<InvokeId, usize>,
    /// How many positions a batch has at most.
    limit: usize,
}

impl Sharing<'_> {
    /// The prompts of a run that may have something in common with others: texts, tokens, or conversations.
    fn prompts(&self, invoke: InvokeId) -> Option<Vec<(&str, &[u32], Option<&Chat>)>> {
        let content = &self.graph.invokes[invoke.index()];
        if content.everything || content.generation.is_some() || content.prompts.is_empty() {
            return None;
        }
        let prompts = content.prompts.iter().map(|prompt| match prompt {
            Prompt::Text(text) => Some((text.as_str(), [].as_slice(), None)),
            Prompt::Tokens(tokens) => Some(("", tokens.as_slice(), None)),
            Prompt::Chat(chat) => Some(("", [].as_slice(), Some(chat))),
            Prompt::Masked { .. } | Prompt::Embeddings(_) => None,
        });
        prompts.collect()
    }

    /// How many prompts a run has.
    fn count(&self, invoke: InvokeId) -> usize {
        self.graph.invokes[invoke.index()].prompts.len()
    }

    /// The number of tokens of its longest prompt.
    fn longest(&self, invoke: InvokeId) -> usize {
        self.longest.get(invoke.index()).copied().unwrap_or(0)
    }

    /// Some runs as a base and what branches off, or `None` where they have nothing in common.
    fn split(&self, members: &[InvokeId]) -> Option<Split> {
        let mut rows_of: HashMap<Vec<(&str, &[u32], Option<&Chat>)>, Span> = HashMap::new();
        let mut rows = BTreeMap::new();
        let mut next = 0;
        for &invoke in members {
            let own = *rows_of.entry(self.prompts(invoke)?).or_insert(Span { start: next, len: self.count(invoke) });
            rows.insert(invoke, own);
            next = next.max(own.start + own.len);
        }
        if rows_of.len() == members.len() {
            return None;
        }
        let divergences = self.divergences(&rows)?;
        let mut groups: BTreeMap<(usize, usize), Vec<(Divergence, InvokeId)>> = BTreeMap::new();
        for (&invoke, divergence) in &divergences {
            groups.entry((rows[&invoke].start, divergence.position)).or_default().push((*divergence, invoke));
        }
        let mut branches = Vec::new();
        for ((_, position), mut members) in groups {
            members.sort_by_key(|(divergence, invoke)| (divergence.stage, *invoke));
            let Some(&(_, first)) = members.first() else { continue };
            let rows = rows[&first];
            // The last layer is run for fewer positions where nobody looks into it; those who do stand apart.
            let (before, within) = members.split_at(members.partition_point(|(divergence, _)| divergence.stage < self.table.depth));
            let each = rows.len * self.longest(first).saturating_sub(position).max(1);
            let size = (POSITIONS.min(self.limit) / each).max(1);
            for chunk in before.chunks(size).chain(within.chunks(size)) {
                branches.push(Branch { rows, position, members: chunk.to_vec() });
            }
        }
        Some(Split { rows, branches })
    }

    /// Runs in batches that fit into the budget: those that wait for each other in one, and beside each other those of about the same length.
    /// Where they share, those on one prompt belong together, and take no more room than one of them.
    fn pieces(&self, members: Vec<InvokeId>, shares: bool) -> Vec<Vec<InvokeId>> {
        let apart = members.iter().all(|invoke| self.longest(*invoke) > 0 && !self.graph.invokes[invoke.index()].everything);
        if members.len() < 2 || !apart || self.limit == usize::MAX {
            return vec![members];
        }
        let mut groups = self.groups(&members, shares);
        let longest = |group: &[InvokeId]| group.iter().map(|invoke| self.longest(*invoke)).max().unwrap_or(0);
        groups.sort_by_key(|group| longest(group));
        let rows = |group: &[InvokeId]| {
            let different = group.iter().map(|invoke| self.prompts(*invoke)).collect::<Option<HashSet<_>>>();
            match different.filter(|different| shares && different.len() < group.len()) {
                Some(different) => different.iter().map(Vec::len).sum::<usize>(),
                None => group.iter().map(|invoke| self.count(*invoke)).sum(),
            }
        };
        let mut batches: Vec<Vec<InvokeId>> = Vec::new();
        let (mut all_rows, mut tokens) = (0, 0);
        for group in groups {
            let (own_rows, longest) = (rows(&group), longest(&group));
            let own_tokens = own_rows * longest;
            let padded = (all_rows + own_rows) * longest;
            let padding = padded - tokens - own_tokens;
            let fits = padded <= self.limit && (padding <= PADDING || 4 * padding <= padded);
            match batches.last_mut().filter(|_| fits) {
                Some(batch) => {
                    batch.extend(group);
                    (all_rows, tokens) = (all_rows + own_rows, tokens + own_tokens);
                }
                None => {
                    batches.push(group);
                    (all_rows, tokens) = (own_rows, own_tokens);
                }
            }
        }
        batches.iter_mut().for_each(|batch| batch.sort_unstable());
        batches
    }

    /// Runs in groups, of which none needs what another holds; where they share, none has a prompt of another.
    fn groups(&self, members: &[InvokeId], shares: bool) -> Vec<Vec<InvokeId>> {
        let mut group = members.iter().map(|&invoke| (invoke, invoke)).collect::<BTreeMap<_, _>>();
        fn root(group: &BTreeMap<InvokeId, InvokeId>, mut invoke: InvokeId) -> InvokeId {
            while group[&invoke] != invoke {
                invoke = group[&invoke];
            }
            invoke
        }
        fn join(group: &mut BTreeMap<InvokeId, InvokeId>, a: InvokeId, b: InvokeId) {
            let (a, b) = (root(group, a), root(group, b));
            group.insert(a.max(b), a.min(b));
        }
        for (id, node) in self.graph.iter().filter(|(id, _)| self.reach.needed[id.index()]) {
            let (Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } | Op::Stop { at, .. }) = node.op else { continue };
            for &(other, _) in self.arguments(id).flat_map(|arg| &self.order.needs[arg.index()]) {
                if group.contains_key(&other) && group.contains_key(&at.invoke) {
                    join(&mut group, other, at.invoke);
                }
            }
        }
        let mut first: HashMap<Vec<(&str, &[u32], Option<&Chat>)>, InvokeId> = HashMap::new();
        for &invoke in members.iter().filter(|_| shares) {
            if let Some(prompts) = self.prompts(invoke) {
                join(&mut group, *first.entry(prompts).or_insert(invoke), invoke);
            }
        }
        let mut groups: BTreeMap<InvokeId, Vec<InvokeId>> = BTreeMap::new();
        members.iter().for_each(|&invoke| groups.entry(root(&group, invoke)).or_default().push(invoke));
        groups.into_values().collect()
    }

    /// Where each of these runs diverges, if it does; `None` where they cannot be run apart from each other.
    fn divergences(&self, rows: &BTreeMap<InvokeId, Span>) -> Option<BTreeMap<InvokeId, Divergence>> {
        let mut found: BTreeMap<InvokeId, Divergence> = BTreeMap::new();
        let needed = || self.graph.iter().filter(|(id, _)| self.reach.needed[id.index()]);
        for (id, node) in needed() {
            let (at, site, region) = match &node.op {
                Op::Set { at, site, region, .. } => (at, site, Some(region)),
                Op::Skip { at, site, .. } => (at, site, None),
                Op::Stop { at, .. } if rows.contains_key(&at.invoke) => return None,
                _ => continue,
            };
            if !rows.contains_key(&at.invoke) {
                continue;
            }
            let (time, position) = (self.order.moments[id.index()].time, self.first(at.invoke, self.order.positions[site.index()], region));
            let stage = self.table.stage_of(time.visited(self.table)?)?;
            let divergence = found.entry(at.invoke).or_insert(Divergence { time, node: id, stage, position });
            let position = divergence.position.min(position);
            if (time, id) < (divergence.time, divergence.node) {
                *divergence = Divergence { time, node: id, stage, position };
            }
            divergence.position = position;
        }
        for (id, node) in needed() {
            // What is read behind the divergence.
            if let Op::Get { at, site } = node.op
                && let Some(divergence) = found.get_mut(&at.invoke)
                && (self.order.moments[id.index()].time, id) > (divergence.time, divergence.node)
            {
                let has_positions = self.axes(self.order.positions[site.index()]).any(|axis| matches!(axis, "Seq" | "Query" | "Key"));
                let first = match &self.reach.read[id.index()] {
                    _ if !has_positions => usize::MAX,
                    Positions::None => usize::MAX,
                    Positions::Range(first, _) => *first,
                    Positions::All => 0,
                };
                divergence.position = divergence.position.min(first);
            }
        }
        // A run that needs from another what that holds only once it has diverged would have to wait for it.
        for (id, node) in needed() {
            let (Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. }) = node.op else { continue };
            let from_others = self.arguments(id).flat_map(|arg| self.order.needs[arg.index()].iter());
            let waits = |&(other, time): &(InvokeId, Time)| {
                other != at.invoke && rows.contains_key(&other) && found.get(&other).is_some_and(|divergence| time >= divergence.time)
            };
            if rows.contains_key(&at.invoke) && from_others.into_iter().any(waits) {
                return None;
            }
        }
        if !self.positions {
            found.values_mut().for_each(|divergence| divergence.position = 0);
        }
        Some(found)
    }

    fn arguments(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let node = self.graph.node(id);
        node.args.iter().copied().chain(node.guards.iter().map(|guard| guard.condition))
    }

    fn axes(&self, site: usize) -> impl Iterator<Item = &str> {
        self.table.sites()[site].facts.axes.iter().map(|axis| axis.name.as_ref())
    }

    /// The first position that an edit writes.
    fn first(&self, invoke: InvokeId, site: usize, region: Option<&Region>) -> usize {
        let written = region.map(|region| positions::of(region, &self.table.sites()[site].facts, self.lengths[invoke.index()]));
        match written {
            Some(Positions::Range(first, _)) => first,
            _ => 0,
        }
    }

    /// The runs that have one edit only, by the site where it is.
    fn checks(&self, branches: &[Branch]) -> BTreeMap<usize, Vec<Check>> {
        let mut edits: HashMap<InvokeId, Vec<NodeId>> = HashMap::new();
        for (id, node) in self.graph.iter().filter(|(id, _)| self.reach.needed[id.index()]) {
            if let Op::Set { at, .. } | Op::Skip { at, .. } = node.op {
                edits.entry(at.invoke).or_default().push(id);
            }
        }
        let mut checks: BTreeMap<usize, Vec<Check>> = BTreeMap::new();
        for (_, invoke) in branches.iter().flat_map(|branch| &branch.members) {
            if let Some([edit]) = edits.get(invoke).map(Vec::as_slice)
                && let Op::Set { site, .. } = self.graph.node(*edit).op
                && self.graph.node(*edit).guards.is_empty()
            {
                let check = Check { invoke: *invoke, edit: *edit, until: self.last_stage_of(*invoke) };
                checks.entry(self.order.positions[site.index()]).or_default().push(check);
            }
        }
        checks
    }

    /// The last stage that a run visits.
    fn last_stage_of(&self, invoke: InvokeId) -> usize {
        self.last_stages.get(&invoke).copied().unwrap_or(0)
    }

    /// The last stage that some runs visit.
    fn last_stage(&self, members: &[(Divergence, InvokeId)]) -> usize {
        members.iter().map(|(_, invoke)| self.last_stage_of(*invoke)).max().unwrap_or(0)
    }
}
