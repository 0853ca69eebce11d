//! From a graph to its schedule.

use super::order::Time;
use super::schedule::{Circumstances, Schedule, Share, Visit, Wave};
use super::{chains, gradient, head, merge, order, reach, share};
use crate::Result;
use crate::graph::{Graph, InvokeId, Op};
use crate::module::SiteTable;

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
        let shares = share::share(graph, table, &mut order, &reach, &Circumstances { shares: circumstances.shares && !gradients, ..circumstances });
        merge::merge(graph, &mut order, needed, circumstances.facts, circumstances.budget);
        let mut run = graph.iter().map(|(id, _)| id).filter(|id| needed[id.index()]).collect::<Vec<_>>();
        run.sort_by_key(|id| (order.moments[id.index()], *id));
        let mut uses = vec![0; graph.nodes.len()];
        graph.saves.iter().for_each(|save| uses[save.index()] += 1);
        let mut waves = shares.into_iter().map(|share| Wave { share, ..Wave::default() }).collect::<Vec<_>>();
        let mut read = graph.invokes.iter().map(|invoke| circumstances.streams && invoke.generation.is_some()).collect::<Vec<_>>();
        let mut all_read = false;
        let mut with_gradient = vec![false; graph.nodes.len()];
        for id in run {
            let node = graph.node(id);
            node.uses().for_each(|used| uses[used.index()] += 1);
            match node.op {
                Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } => {
                    read[at.invoke.index()] = true;
                    all_read |= graph.sees_all(at.invoke);
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
            if read[invoke] || all_read {
                waves[wave].invokes.push(InvokeId(invoke as u32));
                waves[wave].generation.clone_from(&graph.invokes[invoke].generation);
            }
        }
        let mut portions = merge::Portions::new(graph, circumstances.facts);
        for wave in &mut waves {
            portions.side_by_side(&mut wave.after);
            if let Share::Branch { entries, .. } = &wave.share {
                wave.invokes = entries.iter().map(|(invoke, _)| *invoke).collect();
            }
        }
        if let Some(head) = circumstances.head {
            let windows = head::windows(graph, table, &order, head, &waves, needed);
            waves.iter_mut().zip(windows).for_each(|(wave, window)| wave.window = window);
        }
        // A run that stays the base's reads there what it would have read in its branch.
        for index in (0..waves.len()).rev() {
            if let Share::Branch { base, .. } = waves[index].share {
                waves[base].window = waves[base].window.zip(waves[index].window).map(|(a, b)| a.and(b));
            }
        }
        let chained = match circumstances.fuses {
            true => chains::chained(graph, &order, needed, &uses),
            false => vec![false; graph.nodes.len()],
        };
        Ok(Schedule { waves, uses, with_gradient, chained, stops: circumstances.stops })
    }
}
