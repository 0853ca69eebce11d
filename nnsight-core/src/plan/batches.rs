//! In which batch each invoke runs: as early as the values that it needs from others allow.
//!
//! An invoke that writes at one point what another holds at a later one runs after it; at an earlier one, beside it. So an invoke depends on
//! values, and values on invokes. What lies on a circle of these runs at one level, and nothing on it may come too late; the levels of the
//! circles follow from what they need. Both take one look at each node.

use std::collections::{BTreeMap, HashMap};

use super::components::components;
use super::order::{SitePoint, gives_what_is_there};
use crate::graph::{AxisRole, Graph, InvokeId, NodeId, Op};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// Lines of an error that explain a circle: more say nothing new.
const LINES: usize = 8;

/// What is between the invokes of a graph.
pub(super) struct Batches<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    positions: &'a [usize],
    /// When each node touches the model, if it does.
    visits: &'a [Option<(InvokeId, SitePoint)>],
    /// A number for each invoke, equal for those that can be in one batch.
    groups: Vec<usize>,
    /// For each invoke the nodes that need something before they touch it.
    waiting: Vec<Vec<NodeId>>,
    /// Whether an invoke sees all prompts, and so is in one batch with all others.
    sees_all: bool,
    /// What lies on circles together.
    components: Vec<usize>,
}

/// The latest readings that a value depends on.
#[derive(Clone, Copy)]
struct Latest {
    /// The level of their invokes.
    level: usize,
    /// The latest point of one of them.
    time: SitePoint,
    /// The group of their invokes, `None` if they are of several.
    group: Option<usize>,
}

impl Latest {
    fn and(self, other: Latest) -> Latest {
        match self.level.cmp(&other.level) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => Latest { time: self.time.max(other.time), group: self.group.filter(|_| self.group == other.group), ..self },
        }
    }
}

fn latest(of: impl Iterator<Item = Option<Latest>>) -> Option<Latest> {
    of.flatten().reduce(Latest::and)
}

impl<'a> Batches<'a> {
    pub fn new(graph: &'a Graph, table: &'a SiteTable, positions: &'a [usize], visits: &'a [Option<(InvokeId, SitePoint)>]) -> Self {
        let mut waiting = vec![Vec::new(); graph.invokes.len()];
        for ((id, node), visit) in graph.iter().zip(visits) {
            if let Some((invoke, _)) = visit
                && node.uses().next().is_some()
            {
                waiting[invoke.index()].push(id);
            }
        }
        let groups = groups(graph, table, positions);
        let sees_all = graph.invokes.iter().any(|invoke| invoke.all_inputs);
        let mut batches = Batches { graph, table, positions, visits, groups, waiting, sees_all, components: Vec::new() };
        let vertices = batches.all_invokes() + usize::from(sees_all);
        batches.components = components(vertices, |vertex, edge| batches.needed(vertex, edge));
        batches
    }

    /// The batch of each invoke: each level's invokes of one group.
    ///
    /// # Errors
    /// [`Error::TooLate`] or [`Error::Circle`].
    pub fn find(&self) -> Result<Vec<usize>> {
        self.check()?;
        let levels = self.levels();
        let keys = levels.iter().zip(&self.groups).map(|(&level, &group)| (level, group)).collect::<Vec<_>>();
        let mut batch_of = keys.iter().map(|&key| (key, 0)).collect::<BTreeMap<_, _>>();
        batch_of.values_mut().enumerate().for_each(|(index, batch)| *batch = index);
        Ok(keys.iter().map(|key| batch_of[key]).collect())
    }

    // The vertices: the values of nodes; readings that wait for the branch that they are in; invokes; and one that joins all invokes if one of
    // them sees all prompts.

    fn waits(&self, id: NodeId) -> usize {
        match gives_what_is_there(&self.graph.node(id).op) {
            true => self.graph.nodes.len() + id.index(),
            false => id.index(),
        }
    }

    fn invoke(&self, invoke: InvokeId) -> usize {
        2 * self.graph.nodes.len() + invoke.index()
    }

    fn all_invokes(&self) -> usize {
        2 * self.graph.nodes.len() + self.graph.invokes.len()
    }

    fn needed(&self, vertex: usize, edge: usize) -> Option<usize> {
        let (nodes, invokes) = (self.graph.nodes.len(), self.graph.invokes.len());
        let used = |id: usize| {
            let node = &self.graph.nodes[id];
            let condition = || node.guards.get(edge.checked_sub(node.args.len())?).map(|guard| guard.condition);
            node.args.get(edge).copied().or_else(condition).map(NodeId::index)
        };
        if vertex < nodes {
            return match self.visits[vertex] {
                Some((invoke, _)) if gives_what_is_there(&self.graph.nodes[vertex].op) => (edge == 0).then(|| self.invoke(invoke)),
                _ => used(vertex),
            };
        }
        if vertex < 2 * nodes {
            return used(vertex - nodes);
        }
        if vertex == self.all_invokes() {
            return (edge < invokes).then(|| 2 * nodes + edge);
        }
        let waiting = &self.waiting[vertex - 2 * nodes];
        match waiting.get(edge) {
            Some(&id) => Some(self.waits(id)),
            None => (self.sees_all && edge == waiting.len()).then(|| self.all_invokes()),
        }
    }

    /// The invoke and the point of a reading that lies on a circle with its invoke.
    fn reading(&self, id: NodeId) -> Option<(SitePoint, InvokeId)> {
        let (invoke, time) = self.visits[id.index()].filter(|_| gives_what_is_there(&self.graph.node(id).op))?;
        (self.components[id.index()] == self.components[self.invoke(invoke)]).then_some((time, invoke))
    }

    /// Checks that on no circle a value is needed before it is there.
    fn check(&self) -> Result<()> {
        // For each value the latest reading that it depends on along its circle.
        let mut inside: Vec<Option<(SitePoint, InvokeId)>> = Vec::with_capacity(self.graph.nodes.len());
        let mut late = Vec::new();
        for (id, node) in self.graph.iter() {
            let on_circle = |component: usize| node.uses().filter(move |used| self.components[used.index()] == component);
            if let Some((invoke, time)) = self.visits[id.index()] {
                let component = self.components[self.waits(id)];
                let last = on_circle(component).filter_map(|used| inside[used.index()]).max();
                if component == self.components[self.invoke(invoke)] && last.is_some_and(|(from, _)| from > time) {
                    late.push(id);
                }
            }
            inside.push(match gives_what_is_there(&node.op) {
                true => self.reading(id),
                false => on_circle(self.components[id.index()]).filter_map(|used| inside[used.index()]).max(),
            });
        }
        for &id in late.iter().take(LINES) {
            if let Some((invoke, time)) = self.visits[id.index()]
                && let Some(&from) = self.readings(id).get(&invoke).filter(|from| **from > time)
            {
                return Err(Error::TooLate { from: self.name(from), to: self.name(time), source_line: self.graph.source(id) });
            }
        }
        if let Some(&id) = late.first() {
            return Err(self.circle(self.components[self.waits(id)]));
        }
        let mut group_of = HashMap::new();
        for (invoke, group) in self.groups.iter().enumerate() {
            let component = self.components[self.invoke(InvokeId(invoke as u32))];
            if group_of.insert(component, group).is_some_and(|other| other != group) {
                return Err(self.circle(component));
            }
        }
        Ok(())
    }

    /// For each invoke the last point that a node needs along its circle.
    fn readings(&self, id: NodeId) -> BTreeMap<InvokeId, SitePoint> {
        let component = self.components[self.waits(id)];
        let mut found: BTreeMap<InvokeId, SitePoint> = BTreeMap::new();
        let mut seen = std::collections::HashSet::new();
        let mut open = self.graph.node(id).uses().collect::<Vec<_>>();
        while let Some(id) = open.pop() {
            if self.components[id.index()] != component || !seen.insert(id) {
                continue;
            }
            match self.reading(id) {
                Some((time, invoke)) => {
                    let last = found.entry(invoke).or_default();
                    *last = time.max(*last);
                }
                None => open.extend(self.graph.node(id).uses()),
            }
        }
        found
    }

    fn circle(&self, component: usize) -> Error {
        let members = (0..self.graph.invokes.len()).filter(|&index| self.components[self.invoke(InvokeId(index as u32))] == component);
        let members = members.collect::<Vec<_>>();
        let mut lines = Vec::new();
        let mut source_line = None;
        for (id, node) in self.graph.iter().filter(|(id, _)| self.components[self.waits(*id)] == component) {
            let (Op::Set { at, site, .. } | Op::Skip { at, site, .. }) = node.op else { continue };
            for (other, from) in self.readings(id).into_iter().filter(|(other, _)| *other != at.invoke) {
                let (site, from) = (&self.table.sites()[self.positions[site.index()]].path, self.name(from));
                source_line = source_line.or_else(|| self.graph.source(id));
                lines.push(format!(
                    "{}`{site}` of invoke {} comes from `{from}` of invoke {}",
                    crate::error::at(&self.graph.source(id)),
                    at.invoke.0,
                    other.0
                ));
            }
            if lines.len() >= LINES {
                break;
            }
        }
        if let Some(all) = members.iter().copied().find(|&invoke| self.graph.invokes[invoke].all_inputs) {
            let others = members.iter().filter(|&&other| self.groups[other] != self.groups[all]);
            lines.extend(others.map(|other| format!("invoke {other} and invoke {all} have to stand in one batch")).take(LINES));
        }
        Error::Circle { members, detail: lines.join("; "), source_line }
    }

    /// The level of each invoke.
    fn levels(&self) -> Vec<usize> {
        let nodes = self.graph.nodes.len();
        let mut in_order = (0..self.all_invokes()).collect::<Vec<_>>();
        in_order.sort_by_key(|&vertex| self.components[vertex]);
        let mut levels = vec![0; self.graph.invokes.len()];
        // Of each value what it depends on, and what of that is outside of its circle.
        let (mut all, mut outside): (Vec<Option<Latest>>, Vec<Option<Latest>>) = (vec![None; nodes], vec![None; nodes]);
        for circle in in_order.chunk_by(|a, b| self.components[*a] == self.components[*b]) {
            let component = self.components[circle[0]];
            let (values, rest) = circle.split_at(circle.partition_point(|&vertex| vertex < nodes));
            let invokes = rest.iter().filter_map(|vertex| vertex.checked_sub(2 * nodes));
            for &value in values.iter().filter(|value| !gives_what_is_there(&self.graph.nodes[**value].op)) {
                outside[value] = latest(self.graph.nodes[value].uses().map(|used| match self.components[used.index()] == component {
                    true => outside[used.index()],
                    false => all[used.index()],
                }));
            }
            let mut level = 0;
            for (invoke, &id) in invokes.clone().flat_map(|invoke| self.waiting[invoke].iter().map(move |id| (invoke, id))) {
                let used = latest(self.graph.node(id).uses().map(|used| match self.components[used.index()] == component {
                    true => outside[used.index()],
                    false => all[used.index()],
                }));
                if let (Some(Latest { level: other, time: from, group }), Some((_, time))) = (used, self.visits[id.index()]) {
                    let is_strict = from > time || group != Some(self.groups[invoke]);
                    level = level.max(other + usize::from(is_strict));
                }
            }
            invokes.for_each(|invoke| levels[invoke] = level);
            for &value in values {
                all[value] = match self.visits[value] {
                    Some((invoke, time)) if gives_what_is_there(&self.graph.nodes[value].op) => {
                        Some(Latest { level: levels[invoke.index()], time, group: Some(self.groups[invoke.index()]) })
                    }
                    _ => latest(self.graph.nodes[value].uses().map(|used| all[used.index()])),
                };
            }
        }
        levels
    }

    /// What a point is called.
    fn name(&self, time: SitePoint) -> String {
        match (time, time.visited(self.table)) {
            (SitePoint::END, _) | (_, None) => "the generated tokens".to_string(),
            (SitePoint { step: 0, .. }, Some(site)) => self.table.sites()[site].path.clone(),
            (SitePoint { step, .. }, Some(site)) => format!("{} at step {step}", self.table.sites()[site].path),
        }
    }
}

/// A number for each invoke, equal where two can stand in one batch: those that are continued in the same way. One that writes to something
/// which all rows of a batch share, a weight, stands alone.
fn groups(graph: &Graph, table: &SiteTable, positions: &[usize]) -> Vec<usize> {
    let mut alone = vec![false; graph.invokes.len()];
    for node in &graph.nodes {
        if let Op::Set { at, site, .. } = node.op
            && let Some(alone) = alone.get_mut(at.invoke.index())
        {
            *alone |= table.sites()[positions[site.index()]].facts.along(|role| role == AxisRole::Row).is_none();
        }
    }
    let mut first = HashMap::new();
    let group = |index: usize| match alone[index] {
        true => index,
        false => *first.entry(graph.invokes[index].rollout.as_ref()).or_insert(index),
    };
    (0..graph.invokes.len()).map(group).collect()
}
