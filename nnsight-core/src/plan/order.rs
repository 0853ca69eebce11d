//! When each value exists: in which wave of passes, and at which site of the pass.

use crate::graph::{Graph, InvokeId, NodeId, Op};
use crate::module::SiteTable;
use crate::{Error, Result};

/// A moment of a run: the wave of passes, and within it the site (counted from 1; 0 is before the pass).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub wave: usize,
    pub site: usize,
}

/// When everything happens.
pub(super) struct Order {
    /// The wave of each invoke.
    pub waves: Vec<usize>,
    /// The moment of each node.
    pub moments: Vec<Moment>,
    /// The position of each of the graph's sites in the table.
    pub positions: Vec<usize>,
}

/// "The wave of `later` is at least the wave of `earlier`, plus one where `strict`."
struct Constraint {
    earlier: InvokeId,
    later: InvokeId,
    strict: bool,
    set: NodeId,
    from: usize,
}

/// For a node, the last site of each invoke that its value depends on.
type Needs = Vec<(InvokeId, usize)>;

/// Finds when each node can run.
///
/// # Errors
/// [`Error::NoSite`], [`Error::TooLate`] or [`Error::Circle`].
pub(super) fn order(graph: &Graph, table: &SiteTable) -> Result<Order> {
    let positions = positions(graph, table)?;
    let (needs, constraints) = needs(graph, table, &positions)?;
    let waves = waves(graph, table, &positions, &constraints)?;
    let moment = |needs: &Needs| needs.iter().map(|&(invoke, site)| Moment { wave: waves[invoke.index()], site: site + 1 }).max().unwrap_or_default();
    let moments = graph.iter().zip(&needs).map(|((_, node), needs)| match node.op {
        Op::Set { invoke, site, .. } => Moment { wave: waves[invoke.index()], site: positions[site.index()] + 1 },
        _ => moment(needs),
    });
    let moments = moments.collect();
    Ok(Order { waves, moments, positions })
}

fn positions(graph: &Graph, table: &SiteTable) -> Result<Vec<usize>> {
    let position = |path: &String| {
        table.position(path).ok_or_else(|| Error::NoSite {
            path: path.clone(),
            suggestion: crate::error::did_you_mean(table.suggest(path)),
            source_line: Default::default(),
        })
    };
    graph.sites.iter().map(position).collect()
}

fn needs(graph: &Graph, table: &SiteTable, positions: &[usize]) -> Result<(Vec<Needs>, Vec<Constraint>)> {
    let mut needs: Vec<Needs> = Vec::with_capacity(graph.nodes.len());
    let mut constraints = Vec::new();
    for (id, node) in graph.iter() {
        let mut own = Needs::new();
        for &arg in node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)) {
            for &(invoke, site) in &needs[arg.index()] {
                match own.iter_mut().find(|(other, _)| *other == invoke) {
                    Some((_, last)) => *last = site.max(*last),
                    None => own.push((invoke, site)),
                }
            }
        }
        match node.op {
            Op::Get { invoke, site } => {
                // What a branch depends on must exist before the branch does anything.
                check(graph, table, id, &own, invoke, positions[site.index()], &mut constraints)?;
                own = vec![(invoke, positions[site.index()])];
            }
            Op::Set { invoke, site, .. } => check(graph, table, id, &own, invoke, positions[site.index()], &mut constraints)?,
            _ => {}
        }
        needs.push(own);
    }
    Ok((needs, constraints))
}

/// Notes what running the node `id` at `site` of `invoke` asks of the order, or refuses it.
fn check(
    graph: &Graph,
    table: &SiteTable,
    id: NodeId,
    needs: &Needs,
    invoke: InvokeId,
    site: usize,
    constraints: &mut Vec<Constraint>,
) -> Result<()> {
    for &(other, from) in needs {
        if other != invoke {
            constraints.push(Constraint { earlier: other, later: invoke, strict: from > site, set: id, from });
        } else if from > site {
            let path = |site: usize| table.sites()[site].path.clone();
            return Err(Error::TooLate { from: path(from), to: path(site), source_line: graph.source(id) });
        }
    }
    Ok(())
}

fn waves(graph: &Graph, table: &SiteTable, positions: &[usize], constraints: &[Constraint]) -> Result<Vec<usize>> {
    let count = graph.invokes.len();
    let mut waves = vec![0; count];
    for _ in 0..=count {
        let mut changed = false;
        for constraint in constraints {
            let least = waves[constraint.earlier.index()] + usize::from(constraint.strict);
            if waves[constraint.later.index()] < least {
                waves[constraint.later.index()] = least;
                changed = true;
            }
        }
        if !changed {
            return Ok(waves);
        }
    }
    // Whoever still rises lies on a circle, or behind one; those on it need, and are needed by, others that rise.
    let rising = |invoke: InvokeId| waves[invoke.index()] >= count;
    let on_circle = constraints.iter().filter(|constraint| rising(constraint.earlier) && rising(constraint.later));
    let mut members = Vec::new();
    let mut detail = Vec::new();
    for constraint in on_circle {
        members.extend([constraint.earlier.index(), constraint.later.index()]);
        if let Op::Set { site, .. } = graph.node(constraint.set).op {
            detail.push(format!(
                "{}: `{}` of invoke {} comes from `{}` of invoke {}",
                graph.source(constraint.set),
                table.sites()[positions[site.index()]].path,
                constraint.later.0,
                table.sites()[constraint.from].path,
                constraint.earlier.0
            ));
        }
    }
    members.sort_unstable();
    members.dedup();
    Err(Error::Circle { members, detail: detail.join("; ") })
}
