//! The order in which the nodes of a graph are run.

use std::collections::{BTreeMap, BTreeSet};

use super::order::Time;
use super::{gradient, head, order, reach, share};
use crate::Result;
use crate::graph::{Generation, Graph, InvokeId, NodeId, Op};
use crate::module::SiteTable;

/// What is run: some forward passes one after the other, and what happens at which site of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The passes.
    pub waves: Vec<Wave>,
    /// How many nodes use each value, saves included.
    pub uses: Vec<u32>,
    /// Of which values a gradient is asked for.
    pub with_gradient: Vec<bool>,
}

/// One run of a batch of invokes: a forward pass, and those that follow it where it is continued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wave {
    /// What is in the batch.
    pub invokes: Vec<InvokeId>,
    /// How it is continued.
    pub generation: Option<Generation>,
    /// What runs before the pass.
    pub before: Vec<NodeId>,
    /// What runs at which site, in the order of the passes.
    pub visits: Vec<Visit>,
    /// What runs after the last step, because it needs the generated tokens.
    pub after: Vec<NodeId>,
    /// Whether the head is needed at the last position only.
    pub last_only: bool,
    /// What it has in common with others.
    pub share: Share,
}

/// What a batch has in common with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Nothing.
    #[default]
    Nothing,
    /// Equal prompts stand in it once, and others branch off from it.
    Base {
        /// The row of each invoke.
        rows: BTreeMap<InvokeId, usize>,
        /// The stages at which others branch off.
        keeps: BTreeSet<usize>,
        /// The last stage that others need.
        until: usize,
        /// Whether they need its keys and values.
        remembers: bool,
        /// The runs that have one edit only, by its site: where it writes what is there already, the run stays the base's.
        checks: BTreeMap<usize, Vec<Check>>,
    },
    /// It branches off from another.
    Branch {
        /// From which wave.
        base: usize,
        /// From which of its rows.
        row: usize,
        /// At which position.
        from: usize,
        /// Its invokes in the order in which they come in, each with the stage.
        entries: Vec<(InvokeId, usize)>,
    },
}

/// A run whose only edit may turn out to change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The run.
    pub invoke: InvokeId,
    /// The edit.
    pub edit: NodeId,
    /// The last stage that the run visits.
    pub until: usize,
}

/// What runs while a pass comes by a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The step of the generation; 0 is the prompt's own pass.
    pub step: u32,
    /// The site.
    pub site: usize,
    /// What runs.
    pub node: NodeId,
}

/// What a schedule needs to know beside the graph and the sites.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances<'a> {
    /// The first site of the model's last stage, where that treats every position by itself.
    pub head: Option<usize>,
    /// The numbers of tokens of the invokes, where all prompts of one have the same.
    pub lengths: &'a [Option<usize>],
    /// Whether somebody looks at the generated tokens as they come.
    pub streams: bool,
    /// Whether runs on equal prompts may share what they have in common: the model is embedding, layers and head.
    pub shares: bool,
    /// Whether a run whose edit changes nothing stays the base's.
    pub cutoff: bool,
}

impl Schedule {
    /// Orders the nodes that are needed.
    ///
    /// # Errors
    /// [`Error::NoSite`](crate::Error::NoSite), [`Error::TooLate`](crate::Error::TooLate), [`Error::Circle`](crate::Error::Circle),
    /// [`Error::NoEffect`](crate::Error::NoEffect), [`Error::NoGradient`](crate::Error::NoGradient),
    /// [`Error::InsideSkipped`](crate::Error::InsideSkipped) or [`Error::OutsideBranch`](crate::Error::OutsideBranch), each with the line.
    pub fn new(graph: &Graph, table: &SiteTable, circumstances: Circumstances<'_>) -> Result<Self> {
        let mut order = order::order(graph, table)?;
        let reach = reach::needed(graph, table, &order, circumstances)?;
        let needed = &reach.needed;
        gradient::check(graph, table, &order, needed)?;
        let gradients = graph.nodes.iter().any(|node| matches!(node.op, Op::Grad | Op::SetGrad));
        let shares = match circumstances.shares && !gradients {
            true => share::share(graph, table, &mut order, &reach, (circumstances.lengths, circumstances.cutoff)),
            false => vec![Share::Nothing; order.waves.iter().max().map_or(1, |last| last + 1)],
        };
        let mut run = graph.iter().map(|(id, _)| id).filter(|id| needed[id.index()]).collect::<Vec<_>>();
        run.sort_by_key(|id| (order.moments[id.index()], *id));
        let mut uses = vec![0; graph.nodes.len()];
        graph.saves.iter().for_each(|save| uses[save.index()] += 1);
        let mut waves = shares.into_iter().map(|share| Wave { share, ..Wave::default() }).collect::<Vec<_>>();
        let mut read = graph.invokes.iter().map(|invoke| circumstances.streams && invoke.generation.is_some()).collect::<Vec<_>>();
        let mut with_gradient = vec![false; graph.nodes.len()];
        for id in run {
            let node = graph.node(id);
            let arguments = node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition));
            arguments.for_each(|arg| uses[arg.index()] += 1);
            match node.op {
                Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } => {
                    let all = graph.invokes[at.invoke.index()].everything;
                    read.iter_mut().enumerate().filter(|(invoke, _)| all || *invoke == at.invoke.index()).for_each(|(_, read)| *read = true);
                }
                Op::Tokens { invoke } => read[invoke.index()] = true,
                Op::Grad | Op::SetGrad => with_gradient[node.args[0].index()] = true,
                _ => {}
            }
            let moment = order.moments[id.index()];
            let wave = &mut waves[moment.wave];
            match (moment.time, moment.time.visited(table)) {
                (Time::END, _) => wave.after.push(id),
                (_, None) => wave.before.push(id),
                (Time { step, .. }, Some(site)) => wave.visits.push(Visit { step, site, node: id }),
            }
        }
        for (invoke, &wave) in order.waves.iter().enumerate() {
            // A prompt of which nothing is needed is not run.
            if read[invoke] {
                waves[wave].invokes.push(InvokeId(invoke as u32));
                waves[wave].generation.clone_from(&graph.invokes[invoke].generation);
            }
        }
        for wave in &mut waves {
            if let Share::Branch { entries, .. } = &wave.share {
                wave.invokes = entries.iter().map(|(invoke, _)| *invoke).collect();
            }
            wave.last_only = circumstances.head.is_some_and(|head| head::last_position_only(graph, table, head, &wave.visits, needed));
        }
        // A run that stays the base's reads there what it would have read in its branch.
        for index in (0..waves.len()).rev() {
            if let Share::Branch { base, .. } = waves[index].share {
                waves[base].last_only &= waves[index].last_only;
            }
        }
        Ok(Schedule { waves, uses, with_gradient })
    }
}
