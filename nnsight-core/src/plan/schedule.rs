//! The order in which the nodes of a graph are run.

use super::{head, order, reach};
use crate::Result;
use crate::graph::{Graph, InvokeId, NodeId, Op};
use crate::module::SiteTable;

/// What is run: some forward passes one after the other, and what happens at which site of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The passes.
    pub waves: Vec<Wave>,
    /// How many nodes use each value, saves included.
    pub uses: Vec<u32>,
}

/// One forward pass over a batch of invokes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wave {
    /// What is in the batch.
    pub invokes: Vec<InvokeId>,
    /// What runs before the pass.
    pub before: Vec<NodeId>,
    /// What runs at which site, in the order of the pass.
    pub at_sites: Vec<(usize, NodeId)>,
    /// Whether the head is needed at the last position only.
    pub last_only: bool,
}

impl Schedule {
    /// Orders the nodes that are needed. `head` is the first site of the model's last stage; `lengths` are the numbers of tokens of the
    /// invokes, where all prompts of one have the same.
    ///
    /// # Errors
    /// [`Error::NoSite`](crate::Error::NoSite), [`Error::TooLate`](crate::Error::TooLate), [`Error::Circle`](crate::Error::Circle),
    /// [`Error::NoEffect`](crate::Error::NoEffect) or [`Error::OutsideBranch`](crate::Error::OutsideBranch), each with the line.
    pub fn new(graph: &Graph, table: &SiteTable, head: Option<usize>, lengths: &[Option<usize>]) -> Result<Self> {
        let order = order::order(graph, table)?;
        let needed = reach::needed(graph, table, &order, lengths)?;
        let mut run = graph.iter().map(|(id, _)| id).filter(|id| needed[id.index()]).collect::<Vec<_>>();
        run.sort_by_key(|id| (order.moments[id.index()], *id));
        let mut uses = vec![0; graph.nodes.len()];
        graph.saves.iter().for_each(|save| uses[save.index()] += 1);
        let mut waves = vec![Wave::default(); order.waves.iter().max().map_or(1, |last| last + 1)];
        let mut read = vec![false; graph.invokes.len()];
        for id in run {
            let node = graph.node(id);
            let arguments = node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition));
            arguments.for_each(|arg| uses[arg.index()] += 1);
            if let Op::Get { invoke, .. } | Op::Set { invoke, .. } = node.op {
                read[invoke.index()] = true;
            }
            let moment = order.moments[id.index()];
            let wave = &mut waves[moment.wave];
            match moment.site {
                0 => wave.before.push(id),
                site => wave.at_sites.push((site - 1, id)),
            }
        }
        for wave in &mut waves {
            wave.last_only = head.is_some_and(|head| head::last_position_only(graph, table, head, &wave.at_sites, &needed));
        }
        for (invoke, &wave) in order.waves.iter().enumerate() {
            // A prompt of which nothing is needed is not run.
            if read[invoke] {
                waves[wave].invokes.push(InvokeId(invoke as u32));
            }
        }
        Ok(Schedule { waves, uses })
    }
}
