//! When each value exists: in which wave of passes, at which step of a generation, and at which site of the pass.

use std::collections::{BTreeMap, HashMap};

use crate::graph::{At, Graph, InvokeId, NodeId, Op, SiteId};
use crate::module::SiteTable;
use crate::{Error, Result};

/// A moment of a wave: the step of the generation, and within it when the pass comes by a site (counted from 1; 0 is before the pass).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    pub step: u32,
    passed: usize,
}

impl Time {
    /// After the last step.
    pub const END: Time = Time { step: u32::MAX, passed: 0 };

    /// When the pass of a step comes by a site.
    pub fn at(table: &SiteTable, step: u32, site: usize) -> Self {
        Time { step, passed: table.rank(site) + 1 }
    }

    /// The site that the pass comes by then.
    pub fn visited(self, table: &SiteTable) -> Option<usize> {
        self.passed.checked_sub(1).map(|rank| table.at_rank(rank))
    }
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub wave: usize,
    pub time: Time,
    /// How far the gradients have come back that it depends on: 0 before any.
    pub back: u32,
}

/// When everything happens.
pub(super) struct Order {
    /// The wave of each invoke.
    pub waves: Vec<usize>,
    /// The moment of each node.
    pub moments: Vec<Moment>,
    /// The position of each of the graph's sites in the table.
    pub positions: Vec<usize>,
    /// What the value of each node depends on.
    pub needs: Vec<Needs>,
}

/// "The wave of `later` is at least the wave of `earlier`, plus one where `strict`."
struct Constraint {
    earlier: InvokeId,
    later: InvokeId,
    strict: bool,
    /// The node that asks for it, and the moment of `earlier` that it needs.
    because: Option<(NodeId, Time)>,
}

/// For a node, the last moment of each invoke that its value depends on.
pub(super) type Needs = Vec<(InvokeId, Time)>;

/// Finds when each node can run.
///
/// # Errors
/// [`Error::NoSite`], [`Error::TooLate`], [`Error::NoGradient`] or [`Error::Circle`].
pub(super) fn order(graph: &Graph, table: &SiteTable) -> Result<Order> {
    let positions = positions(graph, table)?;
    let ordering = Ordering { graph, table, groups: groups(graph, table, &positions), positions };
    let (needs, mut constraints) = ordering.needs()?;
    ordering.keep_together(&mut constraints);
    let waves = ordering.waves(&constraints)?;
    let moment = |needs: &Needs| {
        let last = needs.iter().map(|&(invoke, time)| Moment { wave: waves[invoke.index()], time, back: 0 });
        last.max().unwrap_or_default()
    };
    let moments = graph.iter().zip(&needs).map(|((_, node), needs)| match ordering.visit(&node.op) {
        Some((at, time)) => Moment { wave: waves[at.invoke.index()], time, back: 0 },
        None => moment(needs),
    });
    let mut moments = moments.collect::<Vec<_>>();
    order_gradients(graph, &mut moments)?;
    Ok(Order { waves, moments, positions: ordering.positions, needs })
}

fn positions(graph: &Graph, table: &SiteTable) -> Result<Vec<usize>> {
    let position = |path: &String| {
        table.position(path).ok_or_else(|| Error::NoSite {
            path: path.clone(),
            suggestion: crate::error::did_you_mean(table.suggest(path)),
            source_line: None,
        })
    };
    graph.sites.iter().map(position).collect()
}

/// A number for each invoke, equal where two can stand in one batch: those that are continued in the same way. One that writes to something
/// which all rows of a batch share, a weight, stands alone.
fn groups(graph: &Graph, table: &SiteTable, positions: &[usize]) -> Vec<usize> {
    let mut alone = vec![false; graph.invokes.len()];
    for node in &graph.nodes {
        if let Op::Set { at, site, .. } = node.op
            && let Some(alone) = alone.get_mut(at.invoke.index())
        {
            *alone |= !table.sites()[positions[site.index()]].facts.axes.iter().any(|axis| axis.name == "Batch");
        }
    }
    let alike = |a: usize, b: usize| !alone[a] && !alone[b] && graph.invokes[a].generation == graph.invokes[b].generation;
    (0..graph.invokes.len()).map(|index| (0..index).find(|&other| alike(index, other)).unwrap_or(index)).collect()
}

struct Ordering<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    positions: Vec<usize>,
    groups: Vec<usize>,
}

impl Ordering<'_> {
    fn position(&self, site: SiteId) -> usize {
        self.positions[site.index()]
    }

    /// When a node touches the model, where it does.
    fn visit(&self, op: &Op) -> Option<(At, Time)> {
        let time = |at: At, site: usize| Some((at, Time::at(self.table, at.step, site)));
        match *op {
            Op::Get { at, site } | Op::Set { at, site, .. } | Op::Stop { at, site } => time(at, self.position(site)),
            // A module is skipped before it begins.
            Op::Skip { at, site, .. } => time(at, self.table.module_of(self.position(site)).sites.start),
            Op::Tokens { invoke } => Some((At::prompt(invoke), Time::END)),
            _ => None,
        }
    }

    fn needs(&self) -> Result<(Vec<Needs>, Vec<Constraint>)> {
        let mut needs: Vec<Needs> = Vec::with_capacity(self.graph.nodes.len());
        let mut constraints = Vec::new();
        for (id, node) in self.graph.iter() {
            let mut own = Needs::new();
            for &arg in node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)) {
                for &(invoke, time) in &needs[arg.index()] {
                    match own.iter_mut().find(|(other, _)| *other == invoke) {
                        Some((_, last)) => *last = time.max(*last),
                        None => own.push((invoke, time)),
                    }
                }
            }
            if let Some((at, time)) = self.visit(&node.op) {
                // What a branch depends on must exist before the branch does anything.
                self.check(id, &own, at.invoke, time, &mut constraints)?;
                if matches!(node.op, Op::Get { .. } | Op::Tokens { .. }) {
                    own = vec![(at.invoke, time)];
                }
            }
            needs.push(own);
        }
        Ok((needs, constraints))
    }

    /// Notes what running the node `id` at a moment of `invoke` asks of the order, or refuses it.
    fn check(&self, id: NodeId, needs: &Needs, invoke: InvokeId, time: Time, constraints: &mut Vec<Constraint>) -> Result<()> {
        for &(other, from) in needs {
            if other != invoke {
                let strict = from > time || self.groups[other.index()] != self.groups[invoke.index()];
                constraints.push(Constraint { earlier: other, later: invoke, strict, because: Some((id, from)) });
            } else if from > time {
                return Err(Error::TooLate { from: self.name(from), to: self.name(time), source_line: self.graph.source(id) });
            }
        }
        Ok(())
    }

    /// An invoke that sees all prompts stands in one batch with them.
    fn keep_together(&self, constraints: &mut Vec<Constraint>) {
        let ids = || (0..self.graph.invokes.len()).map(|index| InvokeId(index as u32));
        for all in ids().filter(|all| self.graph.invokes[all.index()].everything) {
            for other in ids().filter(|&other| other != all) {
                let strict = self.groups[other.index()] != self.groups[all.index()];
                constraints.push(Constraint { earlier: other, later: all, strict, because: None });
                constraints.push(Constraint { earlier: all, later: other, strict, because: None });
            }
        }
    }

    /// What a moment is called.
    fn name(&self, time: Time) -> String {
        match (time, time.visited(self.table)) {
            (Time::END, _) | (_, None) => "the generated tokens".to_string(),
            (Time { step: 0, .. }, Some(site)) => self.table.sites()[site].path.clone(),
            (Time { step, .. }, Some(site)) => format!("{} at step {step}", self.table.sites()[site].path),
        }
    }

    /// The wave of each invoke: as early as the constraints allow, each wave of one group only.
    fn waves(&self, constraints: &[Constraint]) -> Result<Vec<usize>> {
        let levels = self.levels(constraints)?;
        let keys = levels.iter().zip(&self.groups).map(|(&level, &group)| (level, group)).collect::<Vec<_>>();
        let mut wave_of = keys.iter().map(|&key| (key, 0)).collect::<BTreeMap<_, _>>();
        wave_of.values_mut().enumerate().for_each(|(index, wave)| *wave = index);
        Ok(keys.iter().map(|key| wave_of[key]).collect())
    }

    fn levels(&self, constraints: &[Constraint]) -> Result<Vec<usize>> {
        let count = self.graph.invokes.len();
        let mut levels = vec![0; count];
        for _ in 0..=count {
            let mut changed = false;
            for constraint in constraints {
                let least = levels[constraint.earlier.index()] + usize::from(constraint.strict);
                if levels[constraint.later.index()] < least {
                    levels[constraint.later.index()] = least;
                    changed = true;
                }
            }
            if !changed {
                return Ok(levels);
            }
        }
        // Whoever still rises lies on a circle, or behind one; those on it need, and are needed by, others that rise.
        let rising = |invoke: InvokeId| levels[invoke.index()] >= count;
        let on_circle = constraints.iter().filter(|constraint| rising(constraint.earlier) && rising(constraint.later));
        let mut members = Vec::new();
        let mut detail = Vec::new();
        let mut source_line = None;
        for constraint in on_circle {
            members.extend([constraint.earlier.index(), constraint.later.index()]);
            let Some((node, from)) = constraint.because else {
                detail.push(format!("invoke {} and invoke {} have to stand in one batch", constraint.earlier.0, constraint.later.0));
                continue;
            };
            source_line = source_line.or_else(|| self.graph.source(node));
            if let Op::Set { site, .. } | Op::Skip { site, .. } = self.graph.node(node).op {
                detail.push(format!(
                    "{}`{}` of invoke {} comes from `{}` of invoke {}",
                    crate::error::at(&self.graph.source(node)),
                    self.table.sites()[self.position(site)].path,
                    constraint.later.0,
                    self.name(from),
                    constraint.earlier.0
                ));
            }
        }
        members.sort_unstable();
        members.dedup();
        Err(Error::Circle { members, detail: detail.join("; "), source_line })
    }
}

/// Orders what needs gradients, which come into being from the loss backwards.
fn order_gradients(graph: &Graph, moments: &mut [Moment]) -> Result<()> {
    let ranks = ranks(graph, moments);
    for (id, node) in graph.iter() {
        let needed = node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)).map(|arg| moments[arg.index()].back);
        let needed = needed.max().unwrap_or(0);
        moments[id.index()].back = match (&node.op, ranks.get(&id)) {
            (Op::Grad | Op::SetGrad, Some(rank)) => {
                let own = moments[node.args[1].index()].back + rank;
                if needed > own {
                    let reason = "it needs a gradient that comes into being later, further back in the model".to_string();
                    return Err(Error::NoGradient { reason, source_line: graph.source(id) });
                }
                own
            }
            _ => needed,
        };
    }
    Ok(())
}

/// For each gradient its place on the way back from its loss, from 1.
fn ranks(graph: &Graph, moments: &[Moment]) -> HashMap<NodeId, u32> {
    let mut by_loss: BTreeMap<NodeId, Vec<(Moment, NodeId)>> = BTreeMap::new();
    let gradients = || graph.iter().filter(|(_, node)| matches!(node.op, Op::Grad | Op::SetGrad));
    for (_, node) in gradients() {
        by_loss.entry(node.args[1]).or_default().push((moments[node.args[0].index()], node.args[0]));
    }
    for of in by_loss.values_mut() {
        of.sort_unstable_by(|a, b| b.cmp(a));
        of.dedup();
    }
    let rank = |of: NodeId, loss: NodeId| by_loss[&loss].iter().position(|&(_, other)| other == of).map_or(0, |rank| rank as u32 + 1);
    gradients().map(|(id, node)| (id, rank(node.args[0], node.args[1]))).collect()
}
