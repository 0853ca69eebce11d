//! Which entries of a run's values are each prompt's own: prompts of one invoke differ in length, and their texts end one by one.

use std::collections::HashMap;

use super::inputs::RolledOut;
use crate::graph::{At, Axis, AxisRole, Extents, Facts, Graph, InvokeId, Mixing, NodeId, Op, Outline, Region, Span, Unreached, extents};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// What is known of the rows of every value of a graph.
#[derive(Default)]
pub(super) struct Rows {
    of: Vec<Known>,
}

type Known = std::result::Result<Option<Extents>, Trouble>;

/// Why a value is of no use.
#[derive(Clone, Debug)]
enum Trouble {
    /// A node would take padding for entries.
    Mixes(NodeId, Mixing),
    /// All prompts of an invoke had ended before this step of theirs.
    NotReached(NodeId, usize),
}

/// What a graph is run on, and how its runs went if that is known.
pub(super) struct Course<'a> {
    pub graph: &'a Graph,
    pub table: &'a SiteTable,
    pub facts: &'a [Facts],
    /// For every invoke the numbers of positions of its inputs.
    pub lengths: &'a [Vec<usize>],
    /// What came out of the rollout of each invoke.
    pub outputs: Option<&'a HashMap<InvokeId, RolledOut>>,
}

/// Whether prompts of one invoke differ in length.
pub(super) fn differ(lengths: &[Vec<usize>]) -> bool {
    lengths.iter().any(|lengths| lengths.iter().any(|length| Some(length) != lengths.first()))
}

impl Rows {
    /// Follows the rows through a graph before it is run.
    ///
    /// # Errors
    /// [`Error::Ragged`] or [`Error::OutOfRange`] if padding would be taken for entries.
    pub fn planned(course: &Course<'_>) -> Result<Self> {
        let rows = Rows::followed(course);
        match rows.of.iter().find_map(|known| known.as_ref().err()) {
            Some(trouble) => Err(trouble.error(course)),
            None => Ok(rows),
        }
    }

    /// Follows the rows through a graph after it was run.
    ///
    /// # Errors
    /// If what came of texts after their end has found its way into the model.
    pub fn found(course: &Course<'_>) -> Result<Self> {
        let rows = Rows::followed(course);
        for (id, node) in course.graph.iter() {
            if let (Op::Set { .. } | Op::Skip { .. }, Some(Err(trouble))) = (&node.op, rows.of.get(id.index())) {
                return Err(trouble.error(course));
            }
        }
        Ok(rows)
    }

    /// The rows of a value.
    ///
    /// # Errors
    /// If it has taken padding, or rows that had ended, for entries.
    pub fn of(&self, id: NodeId, course: &Course<'_>) -> Result<Option<Extents>> {
        match self.of.get(id.index()) {
            Some(Err(trouble)) => Err(trouble.error(course)),
            Some(Ok(extents)) => Ok(extents.clone()),
            None => Ok(None),
        }
    }

    fn followed(course: &Course<'_>) -> Self {
        let mut of: Vec<Known> = Vec::with_capacity(course.graph.nodes.len());
        let names = course.facts.iter().map(|facts| facts.axes.iter().map(|axis| axis.name.to_string()).collect::<Vec<_>>());
        let names = names.collect::<Vec<_>>();
        let sizes = course.facts.iter().map(|facts| facts.axes.iter().map(|axis| axis.size).collect::<Vec<_>>()).collect::<Vec<_>>();
        for (id, node) in course.graph.iter() {
            // Of a choice only the condition is needed for sure.
            let args = if matches!(node.op, Op::Choose) { &node.args[..1] } else { &node.args };
            let needed = args.iter().chain(node.guards.iter().map(|guard| &guard.condition));
            let trouble = needed.filter_map(|arg| of[arg.index()].as_ref().err()).next().cloned();
            let known = |id: &NodeId| of[id.index()].as_ref().ok().and_then(Option::as_ref);
            let outline = |id: &NodeId| Outline { names: &names[id.index()], sizes: &sizes[id.index()], extents: known(id) };
            let found = match (&node.op, trouble) {
                (Op::Set { at, .. } | Op::Skip { at, .. }, _) if course.has_ended(at.invoke, at.step) => Ok(None),
                (_, Some(trouble)) => Err(trouble),
                (Op::Get { at, .. }, None) if course.has_ended(at.invoke, at.step) => Err(Trouble::NotReached(id, course.reached(at.invoke))),
                (Op::Get { at, .. }, None) => Ok(course.held(*at, &course.facts[id.index()].axes)),
                (Op::Output { invoke }, None) => Ok(course.rolled_out(*invoke, &course.facts[id.index()].axes)),
                (Op::Set { at, site, region, .. }, None) => {
                    course.written(*at, course.graph.site(*site), region, &outline(&node.args[0])).map_err(|mixing| Trouble::Mixes(id, mixing))
                }
                (Op::Skip { at, site, .. }, None) => {
                    let whole = Region::default();
                    course.written(*at, course.graph.site(*site), &whole, &outline(&node.args[0])).map_err(|mixing| Trouble::Mixes(id, mixing))
                }
                (Op::Item { index }, None) => {
                    let carried = course.graph.node(node.args[0]).args.get(*index);
                    Ok(carried.and_then(known).cloned())
                }
                (op, None) => extents(op, &node.args.iter().map(outline).collect::<Vec<_>>()).map_err(|mixing| Trouble::Mixes(id, mixing)),
            };
            of.push(found.map(|extents| extents.and_then(|extents| extents.simplified(&sizes[id.index()]))));
        }
        Rows { of }
    }
}

impl Course<'_> {
    /// The steps with which the runs of an invoke ended.
    fn ends(&self, invoke: InvokeId) -> &[Option<u32>] {
        self.outputs.and_then(|outputs| outputs.get(&invoke)).map(|output| output.ended.as_slice()).unwrap_or_default()
    }

    /// Whether all runs of an invoke had ended before a step.
    fn has_ended(&self, invoke: InvokeId, step: u32) -> bool {
        let ends = self.ends(invoke);
        !ends.is_empty() && ends.iter().all(|end| end.is_some_and(|last| last < step))
    }

    /// How many steps the runs of an invoke had.
    fn reached(&self, invoke: InvokeId) -> usize {
        self.ends(invoke).iter().flatten().max().map_or(0, |&last| last as usize + 1)
    }

    /// The rows of what a site holds, which has these axes.
    fn held(&self, at: At, axes: &[Axis]) -> Option<Extents> {
        let lengths = self.lengths.get(at.invoke.index())?;
        let rows = axes.iter().position(|axis| axis.role == AxisRole::Row)?;
        let longest = lengths.iter().copied().max()?;
        let spans = |more: usize| lengths.iter().map(|&length| Span { start: longest - length, len: length + more }).collect::<Vec<_>>();
        let axes = axes.iter().map(|axis| axis.role).enumerate().filter_map(|(axis, role)| match role {
            AxisRole::Key => Some((axis, spans(at.step as usize))),
            AxisRole::Position | AxisRole::Query if at.step == 0 => Some((axis, spans(0))),
            _ => None,
        });
        let ends = self.ends(at.invoke);
        let present = (0..lengths.len()).map(|row| ends.get(row).copied().flatten().is_none_or(|last| at.step <= last)).collect();
        Some(Extents::new(rows, axes.collect(), present))
    }

    /// The rows of what came out of a rollout, which has these axes.
    fn rolled_out(&self, invoke: InvokeId, axes: &[Axis]) -> Option<Extents> {
        let lengths = self.outputs?.get(&invoke)?.lengths.as_ref()?;
        let along = |role: AxisRole| axes.iter().position(|axis| axis.role == role);
        let spans = lengths.iter().map(|&len| Span { start: 0, len }).collect::<Vec<_>>();
        let extents = Extents::new(along(AxisRole::Row)?, vec![(along(AxisRole::Position)?, spans)], vec![true; lengths.len()]);
        Some(Extents { continued: true, ..extents })
    }

    /// Holds the rows of a value against those of the part of a site that it is written to.
    fn written(&self, at: At, path: &str, region: &Region, value: &Outline<'_>) -> std::result::Result<Option<Extents>, Mixing> {
        let Some(site) = self.table.position(path) else { return Ok(None) };
        let axes = &self.table.sites()[site].facts.axes;
        let names = axes.iter().map(|axis| axis.name.to_string()).collect::<Vec<_>>();
        let Some(held) = self.held(at, axes) else { return Ok(None) };
        let longest = self.lengths.get(at.invoke.index()).and_then(|lengths| lengths.iter().max().copied()).unwrap_or(0);
        let sizes = axes.iter().map(|axis| match axis.role {
            AxisRole::Row => Some(held.present.len()),
            AxisRole::Key => Some(longest + at.step as usize),
            AxisRole::Position | AxisRole::Query if at.step == 0 => Some(longest),
            AxisRole::Position | AxisRole::Query => Some(1),
            _ => axis.size,
        });
        Outline { names: &names, sizes: &sizes.collect::<Vec<_>>(), extents: Some(&held) }.takes(region, value).map(|()| None)
    }
}

impl Trouble {
    fn error(&self, course: &Course<'_>) -> Error {
        match self {
            Trouble::Mixes(id, mixing) => {
                let (op, source_line) = (course.graph.node(*id).op.name(), course.graph.source(*id));
                match mixing.clone() {
                    Mixing::Along(axis) => Error::Ragged { op, axis, source_line },
                    Mixing::Outside { axis, row, size } => Error::OutOfRange { entries: format!("`{op}`"), axis, size, row: Some(row), source_line },
                    Mixing::Ended(row) => Error::RowEnded { what: format!("`{op}`"), row, source_line },
                }
            }
            Trouble::NotReached(id, reached) => {
                let (step, named) = match course.graph.node(*id).op {
                    Op::Get { at, .. } => (at.step, at.unreached == Unreached::Refuse),
                    _ => (0, true),
                };
                Error::StepNotReached { step, reached: *reached, named, source_line: course.graph.source(*id) }
            }
        }
    }
}
