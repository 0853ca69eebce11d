//! A schedule in words and numbers: what is run, shared and left out.

use std::fmt::{Display, Formatter};

use super::schedule::{Schedule, Share};
use crate::graph::{Graph, InvokeId};
use crate::module::SiteTable;

/// What a schedule runs, and how much of it: a token-layer is one layer run for one position of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What each batch does, in order.
    pub batches: Vec<String>,
    /// Nodes of the graph that are run, and how many there are.
    pub nodes: (usize, usize),
    /// Token-layers that are run, and how many there would be if each prompt ran by itself, from the first layer to the last.
    pub token_layers: (usize, usize),
}

impl Schedule {
    /// Puts the schedule into words. `lengths` are the numbers of tokens of each prompt of each invoke.
    pub fn explain(&self, graph: &Graph, table: &SiteTable, lengths: &[Vec<usize>]) -> Explanation {
        let tokens = |invoke: &InvokeId| lengths[invoke.index()].iter().sum::<usize>();
        let longest = |invoke: &InvokeId| lengths[invoke.index()].iter().copied().max().unwrap_or(0);
        let own = |invoke: &&InvokeId| !graph.invokes[invoke.index()].everything;
        let (mut batches, mut run) = (Vec::new(), 0);
        for (index, wave) in self.waves.iter().enumerate().filter(|(_, wave)| !wave.invokes.is_empty()) {
            // The last layer that the pass comes to.
            let last = wave.visits.iter().filter(|visit| visit.step == 0).filter_map(|visit| table.stage_of(visit.site)).max().unwrap_or(0);
            let layers = |last: usize| last.min(table.depth);
            let head = if wave.last_only { "; the head for the last position only" } else { "" };
            match &wave.share {
                Share::Nothing => {
                    let prompts = wave.invokes.iter().filter(own).map(|invoke| lengths[invoke.index()].len()).sum::<usize>();
                    let steps = wave.generation.as_ref().map_or(1, |generation| generation.max_new_tokens);
                    let last = if steps > 1 { table.depth } else { layers(last) };
                    let once = wave.invokes.iter().filter(own).map(tokens).sum::<usize>();
                    run += (once + prompts * (steps - 1)) * last;
                    let steps = if steps > 1 { format!(", and up to {} steps behind them", steps - 1) } else { String::new() };
                    batches.push(format!("{index}: {prompts} prompts through {last} layers{steps}{head}"));
                }
                Share::Base { rows, keeps, until, .. } => {
                    let last = layers(last).max(*until).max(keeps.iter().next_back().map_or(0, |last| layers(last.saturating_sub(1))));
                    let prompts = rows.values().max().map_or(0, |last| last + 1);
                    let once = (0..prompts).filter_map(|row| rows.iter().find(|(_, other)| **other == row)).map(|(invoke, _)| longest(invoke));
                    run += once.sum::<usize>() * last;
                    batches.push(format!("{index}: {prompts} different prompts of {} runs, once, through {last} layers{head}", rows.len()));
                }
                Share::Branch { base, from, entries, .. } => {
                    let last = layers(last);
                    let width = entries.first().map_or(0, |(invoke, _)| longest(invoke) - from);
                    run += entries.iter().map(|(_, stage)| (last + 1).saturating_sub((*stage).max(1)) * width).sum::<usize>();
                    let (first, deepest) = (entries.first().map_or(0, |entry| entry.1), entries.last().map_or(0, |entry| entry.1));
                    batches.push(format!(
                        "{index}: {} runs branch off {base} at position {from}, the first at layer {}, the last at layer {}{head}",
                        entries.len(),
                        first.saturating_sub(1),
                        deepest.saturating_sub(1)
                    ));
                }
            }
        }
        let all = graph.invokes.iter().enumerate().map(|(index, invoke)| {
            let steps = invoke.generation.as_ref().map_or(0, |generation| generation.max_new_tokens - 1);
            match invoke.everything {
                true => 0,
                false => lengths[index].iter().map(|length| length + steps).sum::<usize>(),
            }
        });
        let visits = self.waves.iter().map(|wave| wave.visits.len() + wave.before.len() + wave.after.len()).sum();
        Explanation { batches, nodes: (visits, graph.nodes.len()), token_layers: (run, all.sum::<usize>() * table.depth) }
    }
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.batches.iter().try_for_each(|batch| writeln!(f, "{batch}"))?;
        let share = |(part, whole): (usize, usize)| 100.0 * part as f64 / whole.max(1) as f64;
        writeln!(f, "{} of {} nodes", self.nodes.0, self.nodes.1)?;
        write!(f, "{} of {} token-layers ({:.1} %)", self.token_layers.0, self.token_layers.1, share(self.token_layers))
    }
}
