//! Runs a graph on a model: passes one after the other, stage by stage.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::TokenBatch;
use super::evaluate::Precision;
use super::interleave::{Interleaver, Rows};
use super::stages::Stages;
use crate::graph::{Axis, Environment, Facts, Graph, InvokeId, Limits, Span, infer};
use crate::module::{Cx, SiteTable};
use crate::plan::{Schedule, Wave};
use crate::{Error, Result};

/// Runs all stages without looking at anything; gives the logits.
///
/// # Shapes
/// `(Batch, Seq, Vocab)`, with one position where the batch asks for the last only.
///
/// # Errors
/// What a computation fails with.
pub fn forward(model: &impl Stages, batch: &TokenBatch) -> Result<Tensor> {
    let mut cx = Cx::untouched(batch);
    (0..model.count()).try_fold(batch.tokens().clone(), |state, stage| model.stage(stage, state, &mut cx))
}

/// Runs a graph; gives a tensor for each saved value. `tokens` holds the token ids of every prompt of every invoke.
///
/// # Errors
/// What is wrong with the graph, before anything runs; then what a computation fails with. Each with the line in the user's program.
pub fn execute<M: Stages>(model: &M, table: &SiteTable, graph: &Graph, tokens: &[Vec<Vec<u32>>]) -> Result<Vec<Tensor>> {
    graph.validate(&Limits::default())?;
    graph.check_constants()?;
    if graph.signature != table.signature {
        return Err(Error::OtherModel { graph: graph.signature.clone(), model: table.signature.clone() });
    }
    infer(graph, &Prompts { table, tokens })?;
    let lengths = tokens.iter().map(|prompts| common_length(prompts)).collect::<Vec<_>>();
    let schedule = Schedule::new(graph, table, model.head(), &lengths)?;
    let precision = Precision { device: model.device(), dtype: model.dtype() };
    let mut interleaver = Interleaver::new(model, graph, table, &schedule, precision);
    for wave in schedule.waves {
        run_wave(&mut interleaver, wave, tokens)?;
    }
    interleaver.results()
}

/// The number of tokens, where all prompts have the same.
fn common_length(prompts: &[Vec<u32>]) -> Option<usize> {
    let length = prompts.first()?.len();
    prompts.iter().all(|prompt| prompt.len() == length).then_some(length)
}

fn run_wave<M: Stages>(interleaver: &mut Interleaver<'_, M>, wave: Wave, tokens: &[Vec<Vec<u32>>]) -> Result<()> {
    for node in wave.before {
        interleaver.run(node)?;
    }
    if wave.at_sites.is_empty() {
        return Ok(());
    }
    let (mut batch, layout) = batch(&wave.invokes, tokens, interleaver.model.device())?;
    batch.last_only = wave.last_only;
    let one_position = interleaver.model.head().filter(|_| wave.last_only);
    let mut used = vec![false; interleaver.table.sites().len()];
    wave.at_sites.iter().for_each(|&(site, _)| used[site] = true);
    interleaver.start_pass(layout, wave.at_sites, one_position);
    let mut state = batch.tokens().clone();
    let model = interleaver.model;
    for stage in 0..model.count() {
        if interleaver.is_done() {
            break;
        }
        state = model.stage(stage, state, &mut Cx::hooked(&used, interleaver, &batch))?;
    }
    interleaver.finish_pass()
}

/// Puts the prompts of some invokes together.
fn batch(invokes: &[InvokeId], tokens: &[Vec<Vec<u32>>], device: &Device) -> Result<(TokenBatch, HashMap<InvokeId, Rows>)> {
    let prompts = invokes.iter().flat_map(|invoke| &tokens[invoke.index()]).map(Vec::as_slice).collect::<Vec<_>>();
    let batch = TokenBatch::new(&prompts, device)?;
    let mut layout = HashMap::new();
    let mut start = 0;
    for &invoke in invokes {
        let own = &tokens[invoke.index()];
        let longest = own.iter().map(Vec::len).max().unwrap_or(0);
        let rows = Span { start, len: own.len() };
        let positions = Span { start: batch.width() - longest, len: longest };
        layout.insert(invoke, Rows { rows, positions });
        start += own.len();
    }
    Ok((batch, layout))
}

/// What inference needs to know of a model and its prompts.
pub struct Prompts<'a> {
    /// The model's sites.
    pub table: &'a SiteTable,
    /// The token ids of every prompt of every invoke.
    pub tokens: &'a [Vec<Vec<u32>>],
}

impl Environment for Prompts<'_> {
    fn site(&self, invoke: InvokeId, path: &str) -> Option<Facts> {
        let mut facts = self.table.sites()[self.table.position(path)?].facts.clone();
        let prompts = self.tokens.get(invoke.index())?;
        let longest = prompts.iter().map(Vec::len).max();
        for axis in &mut facts.axes {
            match axis.name.as_ref() {
                "Batch" => axis.size = Some(prompts.len()),
                "Seq" | "Query" | "Key" => {
                    axis.size = longest;
                    axis.ragged = prompts.iter().any(|prompt| Some(prompt.len()) != longest);
                }
                _ => {}
            }
        }
        Some(facts)
    }

    fn module(&self, path: &str) -> Option<(Axis, Axis)> {
        self.table.module(path)?.pointwise.clone()
    }

    fn suggest(&self, path: &str) -> Option<String> {
        self.table.suggest(path)
    }
}
