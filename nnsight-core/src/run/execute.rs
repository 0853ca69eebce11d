//! Runs a graph on a model: batches of prompts one after the other, pass by pass, stage by stage.

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use super::branch::{run_base, run_branch};
use super::budget::Estimate;
use super::environment::Surroundings;
use super::evaluate::Precision;
use super::inputs::{FirstPass, InputId, Inputs, Stepper};
use super::interleave::{Interleaver, Pass, Rows as Place};
use super::request::{Request, used_sites};
use super::rows::{Course, Rows, differ};
use super::stages::Stages;
use crate::batch::{AnyBatch, Wanted};
use crate::graph::{Facts, Graph, Inferred, InvokeId, Limits, Span, infer};
use crate::module::{Cx, States};
use crate::observer::{Emitted, Progress};
use crate::plan::{Explanation, PassBatch, PlanContext, Planned, Share, plan};
use crate::sites::SiteTable;
use crate::types::Saved;
use crate::{Error, Result};

/// Runs all stages without looking at anything; returns what the model computes, at the positions that are wanted.
///
/// # Errors
/// What a computation fails with.
pub fn forward(model: &dyn Stages, batch: &dyn AnyBatch, wanted: Wanted) -> Result<Tensor> {
    let mut cx = Cx::untouched(batch).wanting(wanted);
    let first = model.begin(&mut cx)?;
    model.output((0..model.count()).try_fold(first, |state, stage| model.stage(stage, state, &mut cx))?)
}

/// Runs a graph; gives for each saved value a tensor, or why it never came into being: because the run ended before.
///
/// # Errors
/// What is wrong with the graph, before anything runs; then what a computation fails with. Each with the line in the user's program.
pub fn execute(model: &dyn Stages, table: &SiteTable, graph: &Graph, mut request: Request<'_, '_>) -> Result<Vec<Result<Saved>>> {
    graph.validate(&request.limits)?;
    let lengths = &shared_lengths(graph, &request);
    let inferred = check(graph, table, &known(lengths), model.dtype(), &request.limits)?;
    let Planned { graph, plan, .. } = planned(model, table, graph, (lengths, &inferred), &request)?;
    let graph = &*graph;
    graph.check_constants()?;
    let (head, limits) = (model.head().filter(|_| request.optimizations.lm_head), &request.limits);
    let meter = Estimate { graph, table, plan: &plan, inferred: &inferred, lengths, head, limits }.check()?;
    let precision = Precision { device: model.device(), dtype: model.dtype() };
    // Rows differ if their inputs do, and if the run of one ends before that of another.
    let goes_on = graph.invokes.iter().any(|invoke| invoke.rollout.is_some());
    let tells = differ(lengths) || goes_on && lengths.iter().map(Vec::len).sum::<usize>() > 1;
    let course = Course { graph, table, facts: &inferred.facts, lengths, outputs: None };
    let known = if tells { Rows::planned(&course)? } else { Rows::default() };
    let mut interleaver = Interleaver::new(model, graph, table, (&plan, &inferred, meter), precision);
    interleaver.on_note = request.observer.on_note.take().map(|told| told as _);
    let mut base = None;
    let weights = request.observer.on_batch.as_ref().map(|_| plan.token_layers(graph, table, lengths));
    let mut reporter = Reporter { weights: weights.unwrap_or_default(), done: 0, reported: vec![false; graph.saves.len()] };
    for (index, planned) in plan.batches.iter().enumerate() {
        match (&planned.share, &base) {
            (Share::Base { .. }, _) => base = Some(run_base(&mut interleaver, planned, lengths, request.inputs)?),
            (Share::Branch { .. }, Some(base)) => run_branch(&mut interleaver, planned, base, lengths, request.inputs)?,
            _ => {
                base = None;
                run_batch(&mut interleaver, planned, lengths, &mut request)?;
            }
        }
        if let Some(on_batch) = &mut request.observer.on_batch {
            on_batch(reporter.progress(index, &interleaver, &known, &course)?);
        }
    }
    let outputs = std::mem::take(&mut interleaver.outputs);
    let course = Course { outputs: Some(&outputs), ..course };
    let rows = if tells && !outputs.is_empty() { Rows::found(&course)? } else { known };
    let found = interleaver.results()?.into_iter().zip(&graph.saves);
    Ok(found.map(|(found, save)| Saved::new(found?, rows.of(*save, &course)?)).collect())
}

/// What is told of a run after each batch.
struct Reporter {
    /// The token-layers of each batch.
    weights: Vec<usize>,
    done: usize,
    /// Which saved values have been told of.
    reported: Vec<bool>,
}

impl Reporter {
    fn progress(&mut self, batch: usize, interleaver: &Interleaver<'_>, rows: &Rows, course: &Course<'_>) -> Result<Progress> {
        self.done += self.weights.get(batch).copied().unwrap_or(0);
        let mut saved = Vec::new();
        for (place, reported) in self.reported.iter_mut().enumerate().filter(|(_, reported)| !**reported) {
            if let Some(tensor) = interleaver.saved(place)? {
                saved.push((place, Saved::new(tensor, rows.of(course.graph.saves[place], course)?)?));
                *reported = true;
            }
        }
        Ok(Progress { done: self.done, of: self.weights.iter().sum(), saved })
    }
}

/// The numbers of positions of all inputs, with those of others where an invoke sees them.
fn shared_lengths(graph: &Graph, request: &Request<'_, '_>) -> Vec<Vec<usize>> {
    let mut lengths = request.inputs.lengths().to_vec();
    share_inputs(graph, &mut lengths);
    lengths
}

/// What running a graph would do, in words and numbers. Nothing is computed.
///
/// # Errors
/// What is wrong with the graph, with the line in the user's program.
pub fn explain(model: &dyn Stages, table: &SiteTable, graph: &Graph, request: &Request<'_, '_>) -> Result<Explanation> {
    graph.validate(&request.limits)?;
    let lengths = &shared_lengths(graph, request);
    let inferred = check(graph, table, &known(lengths), model.dtype(), &request.limits)?;
    Ok(planned(model, table, graph, (lengths, &inferred), request)?.explain(table, lengths))
}

/// Lengths of which all are known.
fn known(lengths: &[Vec<usize>]) -> Vec<Vec<Option<usize>>> {
    lengths.iter().map(|lengths| lengths.iter().copied().map(Some).collect()).collect()
}

/// The plan of a graph of which is known what `inferred` says.
fn planned<'a>(
    model: &dyn Stages,
    table: &SiteTable,
    graph: &'a Graph,
    (lengths, inferred): (&[Vec<usize>], &Inferred),
    request: &Request<'_, '_>,
) -> Result<Planned<'a>> {
    let all = known(lengths);
    let infer = |graph: &Graph| {
        let Inferred { facts, .. } = check(graph, table, &all, model.dtype(), &request.limits)?;
        Ok(graph.saves.iter().map(|save| facts[save.index()].clone()).collect())
    };
    let context = PlanContext {
        options: request.optimizations,
        head: model.head(),
        lengths: &common_lengths(&all),
        longest: &lengths.iter().map(|lengths| lengths.iter().copied().max().unwrap_or(0)).collect::<Vec<_>>(),
        streams: request.observer.on_emitted.is_some(),
        // Runs share what they have in common where the model is what the table says: embedding, layers, head. An attached module may look at all
        // positions, and a run that branches off has the later ones only.
        can_share: model.count() == table.depth + 2 && !table.has_attachments(),
        can_share_positions: table.branches_at_positions(),
        facts: &inferred.facts,
        // Costs as much as all of planning.
        infer: if cfg!(debug_assertions) { Some(&infer) } else { None },
    };
    plan(graph, table, context)
}

/// Checks a graph and orders it, without computing anything; returns what is known of every value. `lengths` are the numbers of positions of the
/// inputs, as far as they are known.
///
/// # Errors
/// What is wrong with the graph, with the line in the user's program.
pub fn prepare(graph: &Graph, table: &SiteTable, lengths: &[Vec<Option<usize>>], limits: &Limits) -> Result<Vec<Facts>> {
    graph.validate(limits)?;
    let Inferred { facts, .. } = check(graph, table, lengths, DType::F32, limits)?;
    graph.check_constants()?;
    let known = lengths.iter().map(|lengths| lengths.iter().copied().collect::<Option<Vec<_>>>()).collect::<Option<Vec<_>>>();
    if let Some(lengths) = known.filter(|lengths| differ(lengths)) {
        Rows::planned(&Course { graph, table, facts: &facts, lengths: &lengths, outputs: None })?;
    }
    plan(graph, table, PlanContext { lengths: &common_lengths(lengths), ..PlanContext::default() })?;
    Ok(facts)
}

/// Finds what is known of every value of a valid graph.
fn check(graph: &Graph, table: &SiteTable, lengths: &[Vec<Option<usize>>], dtype: DType, limits: &Limits) -> Result<Inferred> {
    if graph.signature != table.signature {
        let graph = crate::error::shortened(&graph.signature);
        return Err(Error::OtherModel { graph, model: table.signature.clone(), source_line: None });
    }
    for (invoke, lengths) in lengths.iter().enumerate() {
        if let Some(input) = lengths.iter().position(|length| *length == Some(0)) {
            return Err(Error::EmptyInput { invoke, input, source_line: None });
        }
    }
    infer(graph, &Surroundings::new(table, lengths, dtype), limits)
}

/// The number of positions of each invoke, where all its inputs have the same.
fn common_lengths(lengths: &[Vec<Option<usize>>]) -> Vec<Option<usize>> {
    let common = |lengths: &Vec<Option<usize>>| match lengths.split_first() {
        Some((Some(first), rest)) if rest.iter().all(|length| length == &Some(*first)) => Some(*first),
        _ => None,
    };
    lengths.iter().map(common).collect()
}

/// Gives the invokes that see all inputs those of the others.
pub fn share_inputs<T: Clone>(graph: &Graph, inputs: &mut [Vec<T>]) {
    let own = graph.invokes.iter().zip(&*inputs).filter(|(invoke, _)| !invoke.all_inputs);
    let all = own.flat_map(|(_, inputs)| inputs).cloned().collect::<Vec<_>>();
    graph.invokes.iter().zip(inputs).filter(|(invoke, _)| invoke.all_inputs).for_each(|(_, inputs)| inputs.clone_from(&all));
}

fn run_batch(interleaver: &mut Interleaver<'_>, planned: &PassBatch, lengths: &[Vec<usize>], request: &mut Request<'_, '_>) -> Result<()> {
    for &node in &planned.before {
        interleaver.run(node)?;
    }
    let graph = interleaver.graph;
    let own = planned.invokes.iter().copied().filter(|invoke| !graph.invokes[invoke.index()].all_inputs).collect::<Vec<_>>();
    if own.is_empty() {
        // What depends on no input may wait all the same, for others to which the same module is applied.
        return interleaver.run_behind(&planned.after);
    }
    let rows = own.iter().flat_map(|invoke| inputs_of(*invoke, &lengths[invoke.index()])).collect::<Vec<_>>();
    let batch = batch(interleaver, &rows, planned, lengths, request.inputs)?;
    let mut stepper = planned.rollout.as_ref().map(|rollout| request.inputs.rollout(rollout, &rows, interleaver.model.device())).transpose()?;
    let wants_output = !planned.after.is_empty() || request.observer.on_emitted.is_some();
    let reached = run_steps(interleaver, batch, planned, stepper.as_deref_mut(), wants_output, &mut request.observer.on_emitted)?;
    interleaver.finish(reached)?;
    if let Some(stepper) = stepper {
        for &invoke in &planned.invokes {
            let own = (!graph.invokes[invoke.index()].all_inputs).then_some(invoke.index());
            interleaver.outputs.insert(invoke, stepper.output(own)?);
        }
    }
    interleaver.run_behind(&planned.after)
}

/// The inputs of an invoke.
pub(super) fn inputs_of(invoke: InvokeId, lengths: &[usize]) -> impl Iterator<Item = InputId> + use<> {
    (0..lengths.len()).map(move |input| InputId { invoke: invoke.index(), input })
}

/// Runs the inputs' own pass, and those that follow it; returns how many there were.
fn run_steps(
    interleaver: &mut Interleaver<'_>,
    mut batch: Box<dyn AnyBatch>,
    planned: &PassBatch,
    mut stepper: Option<&mut (dyn Stepper + '_)>,
    wants_output: bool,
    told: &mut Option<&mut dyn FnMut(Emitted)>,
) -> Result<usize> {
    let steps = planned.steps();
    let mut states = (steps > 1).then(States::default);
    let model = interleaver.model;
    for step in 0..steps {
        let wanted = Wanted::of(planned.window.filter(|_| step == 0), true);
        let window = model.head().zip(wanted.window());
        interleaver.start_pass(Pass { step: step as u32, batch: (batch.rows(), batch.width()), window });
        let mut used = used_sites(&planned.visits, step as u32, interleaver.table.sites().len());
        if step == 0 {
            interleaver.writes().for_each(|site| used[site] = true);
        }
        // A later pass begins with what this one leads to.
        let goes_on = |interleaver: &Interleaver<'_>| stepper.is_some() && (wants_output || !interleaver.pass_is_last());
        let mut cx = Cx::hooked(&used, interleaver, states.as_mut(), &*batch, wanted);
        let mut state = model.begin(&mut cx)?;
        for stage in 0..model.count() {
            if interleaver.pass_is_done() && !goes_on(interleaver) {
                break;
            }
            state = model.stage(stage, state, &mut Cx::hooked(&used, interleaver, states.as_mut(), &*batch, wanted))?;
        }
        let goes_on = goes_on(interleaver);
        interleaver.finish_pass()?;
        let (Some(stepper), true) = (stepper.as_deref_mut(), goes_on) else { return Ok(step + 1) };
        planned.invokes.iter().filter(|invoke| interleaver.is_ended(**invoke)).for_each(|invoke| stepper.end(invoke.index(), step as u32));
        match stepper.next(&model.output(state)?, step, told)? {
            Some(next) => batch = next,
            None => return Ok(step + 1),
        }
    }
    Ok(steps)
}

/// Puts some inputs side by side.
fn batch(
    interleaver: &mut Interleaver<'_>,
    rows: &[InputId],
    planned: &PassBatch,
    lengths: &[Vec<usize>],
    inputs: &dyn Inputs,
) -> Result<Box<dyn AnyBatch>> {
    let FirstPass { batch, writes } = inputs.batch(rows, interleaver.model.device(), interleaver.model.dtype())?;
    let graph = interleaver.graph;
    let mut layout = HashMap::new();
    let mut start = 0;
    for &invoke in &planned.invokes {
        let own = &lengths[invoke.index()];
        let longest = own.iter().copied().max().unwrap_or(0);
        let all_inputs = graph.invokes[invoke.index()].all_inputs;
        let rows = Span { start: if all_inputs { 0 } else { start }, len: own.len() };
        let positions = Span { start: batch.width() - longest, len: longest };
        layout.insert(invoke, Place { rows, positions, before: 0 });
        start += if all_inputs { 0 } else { own.len() };
    }
    interleaver.start(layout, planned.visits.clone(), writes);
    Ok(batch)
}
