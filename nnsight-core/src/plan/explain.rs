//! A plan in words, numbers and a picture: what is run, shared and left out.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Write as _};

use super::passes::Planned;
use super::schedule::{PassBatch, Plan, Share};
use crate::batch::Window;
use crate::graph::{Graph, InvokeId};
use crate::sites::SiteTable;

/// What a plan runs, and how much of it: a token-layer is one layer run for one position of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What each batch does, in order.
    pub batches: Vec<PlannedBatch>,
    /// Nodes of the graph that are run, and how many there are.
    pub nodes: (usize, usize),
    /// How many of them are computed in one pass with the node that uses them.
    pub fused: usize,
    /// What each pass of the planner did that did something: its name, and what.
    pub passes: Vec<(&'static str, String)>,
    /// Token-layers that are run, and how many there would be if each prompt ran by itself, from the first layer to the last.
    pub token_layers: (usize, usize),
}

/// What one batch does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBatch {
    /// In words.
    pub what: String,
    /// For each layer what becomes of the positions of the batch's runs.
    pub layers: Vec<PlannedLayer>,
}

/// What becomes of some positions at a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedLayer {
    /// They are run.
    pub run: usize,
    /// They are another run's, and taken from there.
    pub shared: usize,
    /// Nothing needs them.
    pub skipped: usize,
}

impl Plan {
    /// The token-layers of each batch.
    pub(crate) fn token_layers(&self, graph: &Graph, table: &SiteTable, lengths: &[Vec<usize>]) -> Vec<usize> {
        let explaining = Explaining { graph, table, lengths, stops: self.stops };
        let run = |planned: &PassBatch| explaining.batch(0, planned).layers.iter().map(|cell| cell.run).sum();
        self.batches.iter().map(run).collect()
    }
}

impl Planned<'_> {
    /// Puts the plan into words. `lengths` are the numbers of positions of each input of each invoke.
    pub fn explain(&self, table: &SiteTable, lengths: &[Vec<usize>]) -> Explanation {
        let (graph, plan) = (&*self.graph, &self.plan);
        let explaining = Explaining { graph, table, lengths, stops: plan.stops };
        let planned = plan.batches.iter().enumerate().filter(|(_, planned)| !planned.invokes.is_empty());
        let batches = planned.map(|(index, planned)| explaining.batch(index, planned)).collect::<Vec<_>>();
        let run = batches.iter().flat_map(|batch| &batch.layers).map(|cell| cell.run).sum();
        let all = graph.invokes.iter().enumerate().map(|(index, invoke)| {
            let steps = invoke.steps() - 1;
            match invoke.all_inputs {
                true => 0,
                false => lengths[index].iter().map(|length| length + steps).sum::<usize>(),
            }
        });
        let visits = plan.batches.iter().map(|planned| planned.visits.len() + planned.before.len() + planned.after.len()).sum();
        Explanation {
            batches,
            nodes: (visits, graph.nodes.len()),
            fused: plan.fused.iter().filter(|fused| **fused).count(),
            passes: self.did.clone(),
            token_layers: (run, all.sum::<usize>() * table.depth),
        }
    }
}

struct Explaining<'a> {
    graph: &'a Graph,
    table: &'a SiteTable,
    lengths: &'a [Vec<usize>],
    stops: bool,
}

impl Explaining<'_> {
    fn positions(&self, invoke: InvokeId) -> usize {
        self.lengths[invoke.index()].iter().sum()
    }

    fn batch(&self, index: usize, planned: &PassBatch) -> PlannedBatch {
        let depth = self.table.depth;
        let stages = || planned.visits.iter().filter(|visit| visit.step == 0).filter_map(|visit| self.table.stage_of(visit.site));
        // The last layer that the pass comes to.
        let last = if self.stops { stages().max().unwrap_or(0).min(depth) } else { depth };
        // Of the last layer those positions are enough where nobody looks into it.
        let window = planned.window.filter(|_| stages().all(|stage| stage != depth));
        let mut what = String::new();
        let mut layers = vec![PlannedLayer::default(); depth];
        let mut add = |first: usize, last: usize, runs: usize, (run, shared): (usize, usize)| {
            for (layer, cell) in layers.iter_mut().enumerate().map(|(index, cell)| (index + 1, cell)) {
                let whole = run + shared;
                let found = match layer {
                    _ if layer > last => PlannedLayer { skipped: whole, ..PlannedLayer::default() },
                    _ if layer < first => PlannedLayer { shared: whole, ..PlannedLayer::default() },
                    _ if layer == depth && window.is_some() => {
                        let needed = window.map_or(run, |window| (runs * window.count()).min(run));
                        PlannedLayer { run: needed, shared, skipped: run - needed }
                    }
                    _ => PlannedLayer { run, shared, skipped: 0 },
                };
                *cell = PlannedLayer { run: cell.run + found.run, shared: cell.shared + found.shared, skipped: cell.skipped + found.skipped };
            }
        };
        let head = match planned.window.map(|window| (window, window.count())) {
            None => String::new(),
            Some((Window::LAST, _)) => "; the head for the last position only".to_string(),
            Some((Window { behind: 0, .. }, count)) => format!("; the head for the last {count} positions only"),
            Some((Window { from, .. }, 1)) => format!("; the head for position -{from} only"),
            Some((Window { from, behind }, _)) => format!("; the head for positions -{from} to -{} only", behind + 1),
        };
        match &planned.share {
            Share::Nothing => {
                let own = || planned.invokes.iter().copied().filter(|invoke| !self.graph.invokes[invoke.index()].all_inputs);
                let inputs = own().map(|invoke| self.lengths[invoke.index()].len()).sum::<usize>();
                let steps = planned.steps();
                let last = if steps > 1 { depth } else { last };
                add(1, last, inputs * steps, (own().map(|invoke| self.positions(invoke)).sum::<usize>() + inputs * (steps - 1), 0));
                let steps = if steps > 1 { format!(", and up to {} steps behind them", steps - 1) } else { String::new() };
                _ = write!(what, "{index}: {inputs} prompts through {last} layers{steps}{head}");
            }
            Share::Base { rows, keeps, until, .. } => {
                let kept = keeps.last().map_or(0, |last| last.saturating_sub(1).min(depth));
                let last = last.max(*until).max(kept);
                let once = rows.iter().map(|(&invoke, rows)| (rows.start, (rows.len, self.positions(invoke)))).collect::<BTreeMap<_, _>>();
                let (inputs, positions) = once.values().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
                add(1, last, inputs, (positions, 0));
                _ = write!(what, "{index}: {inputs} different prompts of {} runs, once, through {last} layers{head}", rows.len());
            }
            Share::Branch { base, rows, from, entries } => {
                for &(invoke, stage) in entries {
                    let shared = rows.len * from;
                    add(stage.max(1), last, rows.len, (self.positions(invoke) - shared, shared));
                }
                let (first, deepest) = (entries.first().map_or(0, |entry| entry.1), entries.last().map_or(0, |entry| entry.1));
                let (first, deepest) = (first.saturating_sub(1), deepest.saturating_sub(1));
                _ = write!(
                    what,
                    "{index}: {} runs branch off {base} at position {from}, the first at layer {first}, the last at layer {deepest}{head}",
                    entries.len()
                );
            }
        }
        PlannedBatch { what, layers }
    }
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.batches.iter().try_for_each(|batch| writeln!(f, "{}", batch.what))?;
        let share = |(part, whole): (usize, usize)| 100.0 * part as f64 / whole.max(1) as f64;
        let fused = if self.fused > 0 { format!(", {} of them in one pass with the next", self.fused) } else { String::new() };
        self.passes.iter().try_for_each(|(name, did)| writeln!(f, "{name}: {did}"))?;
        writeln!(f, "{} of {} nodes{fused}", self.nodes.0, self.nodes.1)?;
        write!(f, "{} of {} token-layers ({:.1} %)", self.token_layers.0, self.token_layers.1, share(self.token_layers))
    }
}

impl Explanation {
    /// A picture: a line for each batch, a column for each layer, and in it what is run (blue), what is taken from another run (green) and what
    /// nothing needs (grey), each as high as its share of the positions.
    pub fn to_svg(&self) -> String {
        const CELL: usize = 18;
        const LEFT: usize = 640;
        let layers = self.batches.iter().map(|batch| batch.layers.len()).max().unwrap_or(0);
        let (width, height) = (LEFT + (layers + 1) * CELL, (self.batches.len() + 4) * (CELL + 4));
        let mut svg =
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n");
        svg += "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
        for (place, (name, color)) in COLORS.iter().enumerate() {
            let x = LEFT + place * 110;
            _ = writeln!(svg, "<rect x=\"{x}\" y=\"6\" width=\"12\" height=\"12\" fill=\"{color}\"/><text x=\"{}\" y=\"16\">{name}</text>", x + 16);
        }
        for (line, batch) in self.batches.iter().enumerate() {
            let top = (line + 1) * (CELL + 4) + 4;
            _ = writeln!(svg, "<text x=\"4\" y=\"{}\">{}</text>", top + 13, batch.what);
            for (layer, cell) in batch.layers.iter().enumerate() {
                let whole = (cell.run + cell.shared + cell.skipped).max(1);
                let mut y = top as f64;
                for (count, (_, color)) in [cell.run, cell.shared, cell.skipped].into_iter().zip(COLORS) {
                    let high = CELL as f64 * count as f64 / whole as f64;
                    if count > 0 {
                        let x = LEFT + layer * CELL;
                        _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y:.1}\" width=\"{}\" height=\"{high:.1}\" fill=\"{color}\"/>", CELL - 1);
                    }
                    y += high;
                }
            }
        }
        let share = 100.0 * self.token_layers.0 as f64 / self.token_layers.1.max(1) as f64;
        let text = format!("{} of {} token-layers ({share:.1} %)", self.token_layers.0, self.token_layers.1);
        _ = writeln!(svg, "<text x=\"4\" y=\"{}\">{text}</text>", (self.batches.len() + 2) * (CELL + 4));
        svg + "</svg>\n"
    }
}

/// What each color means.
const COLORS: [(&str, &str); 3] = [("run", "#3b76c4"), ("shared", "#7bc47f"), ("not needed", "#d9d9d9")];
