//! What a graph uses that is never there: values of another branch, what comes after a stop, the inside of a module that is not run.

use std::collections::{HashMap, HashSet};

use super::order::{Order, SitePoint};
use crate::graph::{At, Graph, InvokeId, NodeId, Op};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// Checks that what a branch computes is used in that branch only, or by the `Choose` that joins the branches.
///
/// # Errors
/// [`Error::OutsideBranch`].
pub(super) fn check_branches(graph: &Graph) -> Result<()> {
    for (id, node) in graph.iter() {
        if matches!(node.op, Op::Choose) {
            continue;
        }
        for &arg in &node.args {
            let inside = &graph.node(arg).guards;
            if !inside.is_empty() && !node.guards.starts_with(inside) {
                return Err(Error::OutsideBranch { source_line: graph.source(id) });
            }
        }
    }
    for &save in &graph.saves {
        if !graph.node(save).guards.is_empty() {
            return Err(Error::OutsideBranch { source_line: graph.source(save) });
        }
    }
    Ok(())
}

/// Checks that nothing comes after the place where a run is always stopped.
///
/// # Errors
/// [`Error::AfterStop`].
pub(super) fn check_stopped(graph: &Graph, order: &Order) -> Result<()> {
    let mut ends: HashMap<InvokeId, (SitePoint, NodeId)> = HashMap::new();
    for (id, node) in graph.iter() {
        if let Op::Stop { at, .. } = node.op
            && node.guards.is_empty()
        {
            let own = (order.points[id.index()].time, id);
            ends.entry(at.invoke).and_modify(|end| *end = own.min(*end)).or_insert(own);
        }
    }
    for (id, node) in graph.iter() {
        let (Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. }) = node.op else { continue };
        if let Some(&(time, stop)) = ends.get(&at.invoke)
            && (order.points[id.index()].time, id) > (time, stop)
        {
            return Err(Error::AfterStop { stopped: graph.source(stop), source_line: graph.source(id) });
        }
    }
    Ok(())
}

/// Whose runs skip a module at a step.
#[derive(Default)]
struct Skippers {
    own: HashSet<InvokeId>,
    /// Whether one that sees all prompts does.
    all: bool,
}

/// Checks that modules are skipped by their outputs, and that nothing touches the inside of one that is.
///
/// # Errors
/// [`Error::Mismatch`], [`Error::InsideSkipped`] and [`Error::MissingState`].
pub(super) fn check_skipped(graph: &Graph, table: &SiteTable, order: &Order) -> Result<()> {
    let mut skipped: HashMap<(u32, usize), Skippers> = HashMap::new();
    for (id, node) in graph.iter() {
        if let Op::Skip { at, site, .. } = node.op
            && let position = order.positions[site.index()]
            && let Some(module) = table.modules_around(position).next()
        {
            if position + 1 != table.modules()[module].sites.end {
                let problem = format!("`{}` is not the output of a module; skip a module by its output", table.sites()[position].path);
                return Err(Error::Mismatch { op: node.op.name(), problem, source_line: graph.source(id) });
            }
            let skippers = skipped.entry((at.step, module)).or_default();
            skippers.all |= graph.sees_all(at.invoke);
            skippers.own.insert(at.invoke);
        }
    }
    if skipped.is_empty() {
        return Ok(());
    }
    check_state(graph, table, order, &skipped)?;
    let last_read = last_readings(graph, order);
    for (id, node) in graph.iter() {
        let (at, position, inputs) = match node.op {
            // What a skipped module is given can still be read, and so it can be set where somebody reads it.
            Op::Get { at, site } => (at, order.positions[site.index()], 1),
            Op::Set { at, site, .. } => {
                let position = order.positions[site.index()];
                let is_read_later = last_read.get(&(at.invoke, at.step, position)).is_some_and(|last| *last > id);
                (at, position, usize::from(is_read_later))
            }
            _ => continue,
        };
        let is_skipped = |module: &usize| {
            let inner = &table.modules()[*module].sites;
            let skippers = skipped.get(&(at.step, *module)).filter(|_| (inner.start + inputs..inner.end - 1).contains(&position));
            skippers.is_some_and(|skippers| skippers.all || graph.sees_all(at.invoke) || skippers.own.contains(&at.invoke))
        };
        if let Some(module) = table.modules_around(position).find(is_skipped) {
            let (site, module) = (table.sites()[position].path.clone(), table.modules()[module].path.clone());
            return Err(Error::InsideSkipped { site, module, source_line: graph.source(id) });
        }
    }
    Ok(())
}

/// The last reading of each site at each step of each invoke.
fn last_readings(graph: &Graph, order: &Order) -> HashMap<(InvokeId, u32, usize), NodeId> {
    let readings = graph.iter().filter_map(|(id, node)| match node.op {
        Op::Get { at: At { invoke, step, .. }, site } => Some(((invoke, step, order.positions[site.index()]), id)),
        _ => None,
    });
    readings.collect()
}

/// Checks that a module with an attention, once it is skipped, is skipped at every later step.
fn check_state(graph: &Graph, table: &SiteTable, order: &Order, skipped: &HashMap<(u32, usize), Skippers>) -> Result<()> {
    for (id, node) in graph.iter() {
        let Op::Skip { at, site, .. } = node.op else { continue };
        let Some(module) = table.modules_around(order.positions[site.index()]).next() else { continue };
        let info = &table.modules()[module];
        let steps = graph.invokes[at.invoke.index()].steps();
        let attends = table.mixing_between(info.sites.start, info.sites.end - 1).is_some();
        let goes_on = || skipped.get(&(at.step + 1, module)).is_some_and(|skippers| skippers.own.contains(&at.invoke));
        if attends && (at.step as usize) + 1 < steps && !goes_on() {
            return Err(Error::MissingState { module: info.path.clone(), step: at.step, source_line: graph.source(id) });
        }
    }
    Ok(())
}
