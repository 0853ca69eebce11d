//! Whether the head is needed at the last position only.

use super::schedule::Visit;
use crate::graph::{Graph, NodeId, Op};
use crate::module::SiteTable;

/// Whether everything that is read from the sites `head` onwards is read at the last position, and nothing there is written. The head, which
/// in a small model is a third of the work, is then run for one position instead of all. Later steps of a generation have one position anyway.
pub(super) fn last_position_only(graph: &Graph, table: &SiteTable, head: usize, visits: &[Visit], needed: &[bool]) -> bool {
    let mut in_head = vec![false; graph.nodes.len()];
    for visit in visits.iter().filter(|visit| visit.step == 0 && table.rank(visit.site) >= table.rank(head)) {
        let has_positions = || table.sites()[visit.site].facts.axes.iter().any(|axis| axis.name == "Seq");
        match graph.node(visit.node).op {
            Op::Get { .. } if has_positions() => in_head[visit.node.index()] = true,
            Op::Get { .. } | Op::Set { .. } | Op::Skip { .. } => return false,
            _ => {}
        }
    }
    let last = |id: NodeId| match &graph.node(id).op {
        Op::Slice(region) => region.0.iter().any(|step| {
            let source = graph.node(graph.node(id).args[0]);
            let Op::Get { site, .. } = source.op else { return false };
            let position = table.position(graph.site(site));
            let axis = position.and_then(|position| table.sites()[position].facts.axes.get(step.axis as usize));
            step.single && step.start == -1 && axis.is_some_and(|axis| axis.name == "Seq")
        }),
        _ => false,
    };
    let users = graph.iter().filter(|(id, _)| needed[id.index()]).flat_map(|(id, node)| node.args.iter().map(move |arg| (id, arg)));
    let conditions = graph.iter().flat_map(|(_, node)| node.guards.iter().map(|guard| guard.condition));
    !graph.saves.iter().any(|save| in_head[save.index()])
        && !conditions.into_iter().any(|condition| in_head[condition.index()])
        && users.into_iter().all(|(user, arg)| !in_head[arg.index()] || last(user))
}
