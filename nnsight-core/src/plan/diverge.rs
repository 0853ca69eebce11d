//! Where each run stops being the base's, and which runs wait for each other.

use super::liveness::Liveness;
use super::order::{Order, SitePoint};
use super::positions::{self, Positions};
use super::sets::Sets;
use crate::graph::{At, AxisRole, Graph, InvokeId, Node, NodeId, Op, Region, SiteId};
use crate::sites::SiteTable;

/// Where a run stops being the base's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Divergence {
    pub time: SitePoint,
    pub node: NodeId,
    pub stage: usize,
    /// The first position that it edits or reads from there on.
    pub position: usize,
}

/// What is known of each run of a graph.
pub(super) struct Runs {
    /// Where each diverges, if it does.
    pub divergences: Vec<Option<Divergence>>,
    /// Whether a run can be neither a base's nor a branch: it is stopped, or needs from another what that holds only once it has diverged.
    pub apart: Vec<bool>,
    /// The only edit of each run, if it has one.
    pub only_edit: Vec<Option<NodeId>>,
    /// The sites that each reads after it has diverged.
    pub reads_after: Vec<Vec<usize>>,
    /// The last stage that each visits.
    pub last_stages: Vec<usize>,
    /// A number for each run, equal for those of one batch of which one needs what another holds.
    pub linked: Vec<usize>,
}

impl Runs {
    /// Looks at each node that is needed. `positions` says whether runs share positions, else they diverge at the first.
    pub fn new(graph: &Graph, table: &SiteTable, order: &Order, liveness: &Liveness, lengths: &[Option<usize>], positions: bool) -> Self {
        let count = graph.invokes.len();
        let mut runs = Runs {
            divergences: vec![None; count],
            apart: vec![false; count],
            only_edit: vec![None; count],
            reads_after: vec![Vec::new(); count],
            last_stages: vec![0; count],
            linked: Vec::new(),
        };
        let seen = Seen { graph, table, order, liveness, lengths };
        runs.find_edits(&seen);
        runs.find_readings(&seen);
        // How each value depends on the readings of the last batch that it depends on.
        let latest = seen.latest(&runs.divergences);
        for (_, node) in seen.needed() {
            if let Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } = node.op {
                let batch = order.batches[at.invoke.index()];
                let late = node.uses().filter_map(|used| latest[used.index()]).filter(|latest| latest.batch == batch);
                runs.apart[at.invoke.index()] |= late.fold(Late::Nothing, |all, latest| all.and(latest.late)).is_of_another_than(at.invoke);
            }
        }
        runs.linked = seen.linked(&latest);
        if !positions {
            runs.divergences.iter_mut().flatten().for_each(|divergence| divergence.position = 0);
        }
        runs
    }

    fn find_edits(&mut self, seen: &Seen<'_>) {
        let mut edits = vec![0usize; self.apart.len()];
        for (id, node) in seen.needed() {
            let (at, site, region) = match &node.op {
                Op::Set { at, site, region, .. } => (at, site, Some(region)),
                Op::Skip { at, site, .. } => (at, site, None),
                Op::Stop { at, .. } => {
                    self.apart[at.invoke.index()] = true;
                    continue;
                }
                Op::Get { at, site } => {
                    self.visits(seen, *at, *site);
                    continue;
                }
                _ => continue,
            };
            self.visits(seen, *at, *site);
            let invoke = at.invoke.index();
            edits[invoke] += 1;
            self.only_edit[invoke] = Some(id).filter(|_| edits[invoke] == 1);
            let time = seen.order.points[id.index()].time;
            let Some(stage) = time.visited(seen.table).and_then(|site| seen.table.stage_of(site)) else {
                self.apart[invoke] = true;
                continue;
            };
            let first = seen.first_written(*at, *site, region);
            let divergence = self.divergences[invoke].get_or_insert(Divergence { time, node: id, stage, position: first });
            let position = divergence.position.min(first);
            if (time, id) < (divergence.time, divergence.node) {
                *divergence = Divergence { time, node: id, stage, position };
            }
            divergence.position = position;
        }
    }

    fn visits(&mut self, seen: &Seen<'_>, at: At, site: SiteId) {
        let stage = seen.table.stage_of(seen.order.positions[site.index()]).unwrap_or(0);
        let last = &mut self.last_stages[at.invoke.index()];
        *last = stage.max(*last);
    }

    /// What is read after a divergence must be there too.
    fn find_readings(&mut self, seen: &Seen<'_>) {
        for (id, node) in seen.needed() {
            if let Op::Get { at, site } = node.op
                && let Some(divergence) = &mut self.divergences[at.invoke.index()]
                && (seen.order.points[id.index()].time, id) > (divergence.time, divergence.node)
            {
                let site = seen.order.positions[site.index()];
                let first = match &seen.liveness.read[id.index()] {
                    _ if !seen.has_positions(site) => usize::MAX,
                    Positions::None => usize::MAX,
                    Positions::Range(first, _) => *first,
                    Positions::All => 0,
                };
                divergence.position = divergence.position.min(first);
                self.reads_after[at.invoke.index()].push(site);
            }
        }
    }
}

/// The runs of which a value depends on what they hold only once they have diverged.
#[derive(Clone, Copy, Debug)]
enum Late {
    Nothing,
    One(InvokeId),
    Several,
}

impl Late {
    fn and(self, other: Late) -> Late {
        match (self, other) {
            (Late::Nothing, late) | (late, Late::Nothing) => late,
            (Late::One(a), Late::One(b)) if a == b => self,
            _ => Late::Several,
        }
    }

    fn is_of_another_than(self, invoke: InvokeId) -> bool {
        match self {
            Late::Nothing => false,
            Late::One(other) => other != invoke,
            Late::Several => true,
        }
    }
}

/// The last batch that a value depends on, and what of that batch's runs.
#[derive(Clone, Copy, Debug)]
struct Latest {
    batch: usize,
    late: Late,
}

struct Seen<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    order: &'a Order,
    liveness: &'a Liveness,
    lengths: &'a [Option<usize>],
}

impl<'a> Seen<'a> {
    fn needed(&self) -> impl Iterator<Item = (NodeId, &'a Node)> + use<'a> {
        let needed = &self.liveness.needed;
        self.graph.iter().filter(|(id, _)| needed[id.index()])
    }

    fn has_positions(&self, site: usize) -> bool {
        self.table.sites()[site].facts.along(AxisRole::is_of_positions).is_some()
    }

    /// The first position that an edit writes.
    fn first_written(&self, at: At, site: SiteId, region: Option<&Region>) -> usize {
        let facts = &self.table.sites()[self.order.positions[site.index()]].facts;
        match region.map(|region| positions::of(region, facts, self.lengths[at.invoke.index()])) {
            Some(Positions::Range(first, _)) => first,
            _ => 0,
        }
    }

    fn latest(&self, divergences: &[Option<Divergence>]) -> Vec<Option<Latest>> {
        let mut latest: Vec<Option<Latest>> = Vec::with_capacity(self.graph.nodes.len());
        for (id, node) in self.graph.iter() {
            let own = match node.op {
                Op::Get { at: At { invoke, .. }, .. } | Op::Output { invoke } => {
                    let time = self.order.points[id.index()].time;
                    let has_diverged = divergences[invoke.index()].is_some_and(|divergence| time >= divergence.time);
                    let late = if has_diverged { Late::One(invoke) } else { Late::Nothing };
                    Some(Latest { batch: self.order.batches[invoke.index()], late })
                }
                _ => node.uses().filter_map(|used| latest[used.index()]).reduce(|a, b| match a.batch.cmp(&b.batch) {
                    std::cmp::Ordering::Greater => a,
                    std::cmp::Ordering::Less => b,
                    std::cmp::Ordering::Equal => Latest { late: a.late.and(b.late), ..a },
                }),
            };
            latest.push(own);
        }
        latest
    }

    /// Joins each run with those of its batch whose values it needs.
    fn linked(&self, latest: &[Option<Latest>]) -> Vec<usize> {
        let nodes = self.graph.nodes.len();
        let batch_of = |id: NodeId| latest[id.index()].map(|latest| latest.batch);
        let mut sets = Sets::new(nodes + self.graph.invokes.len());
        // Whether a run of the last batch that a value depends on needs it.
        let mut joins = vec![false; nodes];
        for (id, node) in self.graph.iter().rev() {
            if self.liveness.needed[id.index()]
                && let Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } | Op::Stop { at, .. } = node.op
            {
                let batch = self.order.batches[at.invoke.index()];
                for used in node.uses().filter(|used| batch_of(*used) == Some(batch)) {
                    joins[used.index()] = true;
                    sets.join(nodes + at.invoke.index(), used.index());
                }
            }
            match node.op {
                _ if !joins[id.index()] => {}
                Op::Get { at: At { invoke, .. }, .. } | Op::Output { invoke } => sets.join(id.index(), nodes + invoke.index()),
                _ => {
                    for used in node.uses().filter(|used| batch_of(*used) == batch_of(id)) {
                        joins[used.index()] = true;
                        sets.join(id.index(), used.index());
                    }
                }
            }
        }
        (0..self.graph.invokes.len()).map(|invoke| sets.root(nodes + invoke)).collect()
    }
}
