//! Runs a graph on a model: batches of prompts one after the other, pass by pass, stage by stage.

use std::borrow::Cow;
use std::collections::HashMap;

use candle_core::{DType, Tensor};
use nnsight_kernels::Extent;

use super::Prompts;
use super::branch::{run_base, run_branch};
use super::budget::Estimate;
use super::evaluate::Precision;
use super::generate::Generator;
use super::interleave::{Interleaver, Pass, Rows as Place};
use super::request::{Request, used_sites};
use super::rows::{Course, Rows, differ};
use super::stages::Stages;
use crate::batch::{KvCache, TokenBatch};
use crate::graph::{Facts, Graph, Inferred, InvokeId, Limits, Prompt, Span, infer, not_finite};
use crate::module::Cx;
use crate::observer::{Progress, Token};
use crate::plan::{Budget, Explanation, Optimizations, PassBatch, Plan, PlanContext, Share, counted_from_the_end, cse};
use crate::sites::SiteTable;
use crate::types::Saved;
use crate::{Error, Result};

/// Runs all stages without looking at anything; gives the logits.
///
/// # Shapes
/// `(Batch, Seq, Vocab)`, with the positions that the batch asks for.
///
/// # Errors
/// What a computation fails with.
pub fn forward(model: &dyn Stages, batch: &TokenBatch) -> Result<Tensor> {
    let mut cx = Cx::untouched(batch);
    (0..model.count()).try_fold(batch.tokens().clone(), |state, stage| model.stage(stage, state, &mut cx))
}

/// Runs a graph; gives for each saved value a tensor, or why it never came into being: because the run ended before.
///
/// # Errors
/// What is wrong with the graph, before anything runs; then what a computation fails with. Each with the line in the user's program.
pub fn execute(model: &dyn Stages, table: &SiteTable, graph: &Graph, mut request: Request<'_, '_>) -> Result<Vec<Result<Saved>>> {
    graph.validate(&request.limits)?;
    share_prompts(graph, &mut request.tokens);
    let graph = &*simplified(model, table, graph, &request);
    let (plan, inferred) = plan(model, table, graph, &request)?;
    graph.check_constants()?;
    let (head, limits) = (model.head().filter(|_| request.optimizations.lm_head), &request.limits);
    let lengths = &whole_lengths(&request.tokens);
    let meter = Estimate { graph, table, plan: &plan, inferred: &inferred, lengths, head, limits }.check()?;
    let precision = Precision { device: model.device(), dtype: model.dtype() };
    // Rows differ if their prompts do, and if the text of one ends before that of another.
    let generates = graph.invokes.iter().any(|invoke| invoke.generation.is_some());
    let tells = differ(lengths) || generates && lengths.iter().map(Vec::len).sum::<usize>() > 1;
    let course = Course { graph, table, facts: &inferred.facts, lengths, texts: None };
    let known = if tells { Rows::planned(&course)? } else { Rows::default() };
    let mut interleaver = Interleaver::new(model, graph, table, (&plan, &inferred, meter), precision);
    interleaver.on_note = request.observer.on_note.take().map(|told| told as _);
    let mut base = None;
    let weights = request.observer.on_batch.as_ref().map(|_| plan.token_layers(graph, table, lengths));
    let mut reporter = Reporter { weights: weights.unwrap_or_default(), done: 0, reported: vec![false; graph.saves.len()] };
    for (index, planned) in plan.batches.iter().enumerate() {
        match (&planned.share, &base) {
            (Share::Base { .. }, _) => base = Some(run_base(&mut interleaver, planned, &request)?),
            (Share::Branch { .. }, Some(base)) => run_branch(&mut interleaver, planned, base, &request)?,
            _ => {
                base = None;
                run_batch(&mut interleaver, planned, &mut request)?;
            }
        }
        if let Some(on_batch) = &mut request.observer.on_batch {
            on_batch(reporter.progress(index, &interleaver, &known, &course)?);
        }
    }
    let (tokens, ended) = (std::mem::take(&mut interleaver.tokens), std::mem::take(&mut interleaver.ended));
    let course = Course { texts: Some((&tokens, &ended)), ..course };
    let rows = if tells && !ended.is_empty() { Rows::found(&course)? } else { known };
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

fn whole_lengths(tokens: &[Vec<Vec<u32>>]) -> Vec<Vec<usize>> {
    tokens.iter().map(|prompts| prompts.iter().map(Vec::len).collect()).collect()
}

/// What running a graph would do, in words and numbers. Nothing is computed.
///
/// # Errors
/// What is wrong with the graph, with the line in the user's program.
pub fn explain(model: &dyn Stages, table: &SiteTable, graph: &Graph, mut request: Request<'_, '_>) -> Result<Explanation> {
    graph.validate(&request.limits)?;
    share_prompts(graph, &mut request.tokens);
    let graph = &*simplified(model, table, graph, &request);
    Ok(plan(model, table, graph, &request)?.0.explain(graph, table, &whole_lengths(&request.tokens)))
}

/// The graph, which is a valid one, without what it computes twice, and with positions of the head counted from the end, so that the other end need not be there.
fn simplified<'a>(model: &dyn Stages, table: &SiteTable, graph: &'a Graph, request: &Request<'_, '_>) -> Cow<'a, Graph> {
    let simplified = if request.optimizations.cse { cse(graph) } else { Cow::Borrowed(graph) };
    match model.head().filter(|_| request.optimizations.lm_head) {
        Some(head) => counted_from_the_end(simplified, table, head, &common_lengths(&lengths(request))),
        None => simplified,
    }
}

/// The numbers of tokens of all prompts.
fn lengths(request: &Request<'_, '_>) -> Vec<Vec<Option<usize>>> {
    request.tokens.iter().map(|prompts| prompts.iter().map(|prompt| Some(prompt.len())).collect()).collect()
}

fn plan(model: &dyn Stages, table: &SiteTable, graph: &Graph, request: &Request<'_, '_>) -> Result<(Plan, Inferred)> {
    let lengths = lengths(request);
    // Runs share what they have in common where the model is what the table says: embedding, layers, head. An attached module may look at all
    // positions, and a run that branches off has the later ones only.
    let shares = request.optimizations.share && model.count() == table.depth + 2 && !table.has_attachments();
    let head = model.head().filter(|_| request.optimizations.lm_head);
    let inferred = check(graph, table, &lengths, model.dtype(), &request.limits)?;
    let facts = if request.optimizations.batch_calls { inferred.facts.as_slice() } else { &[] };
    let Optimizations { stop: stops, positions, cutoff, fuse: fuses, budget, .. } = request.optimizations;
    let streams = request.observer.on_token.is_some();
    let plan = Plan::new(
        graph,
        table,
        PlanContext {
            head,
            lengths: &common_lengths(&lengths),
            longest: &whole_lengths(&request.tokens).iter().map(|prompts| prompts.iter().copied().max().unwrap_or(0)).collect::<Vec<_>>(),
            streams,
            shares,
            positions: positions && table.branches_at_positions(),
            stops,
            cutoff,
            facts,
            fuses,
            budget,
        },
    )?;
    Ok((plan, inferred))
}

/// Checks a graph and orders it, without computing anything; returns what is known of every value. `lengths` are the numbers of tokens of the
/// prompts, as far as they are known.
///
/// # Errors
/// What is wrong with the graph, with the line in the user's program.
pub fn prepare(graph: &Graph, table: &SiteTable, lengths: &[Vec<Option<usize>>], limits: &Limits) -> Result<Vec<Facts>> {
    graph.validate(limits)?;
    let Inferred { facts, .. } = check(graph, table, lengths, DType::F32, limits)?;
    graph.check_constants()?;
    let known = lengths.iter().map(|lengths| lengths.iter().copied().collect::<Option<Vec<_>>>()).collect::<Option<Vec<_>>>();
    if let Some(lengths) = known.filter(|lengths| differ(lengths)) {
        Rows::planned(&Course { graph, table, facts: &facts, lengths: &lengths, texts: None })?;
    }
    Plan::new(graph, table, PlanContext { lengths: &common_lengths(lengths), budget: Budget::Unlimited, ..PlanContext::default() })?;
    Ok(facts)
}

/// Finds what is known of every value of a valid graph.
fn check(graph: &Graph, table: &SiteTable, lengths: &[Vec<Option<usize>>], dtype: DType, limits: &Limits) -> Result<Inferred> {
    if graph.signature != table.signature {
        let graph = crate::error::shortened(&graph.signature);
        return Err(Error::OtherModel { graph, model: table.signature.clone(), source_line: None });
    }
    for (invoke, lengths) in lengths.iter().enumerate() {
        if let Some(prompt) = lengths.iter().position(|length| *length == Some(0)) {
            return Err(Error::EmptyPrompt { invoke, prompt, source_line: None });
        }
    }
    infer(graph, &Prompts::new(table, lengths, dtype), limits)
}

/// The number of tokens of each invoke, where all its prompts have the same.
fn common_lengths(lengths: &[Vec<Option<usize>>]) -> Vec<Option<usize>> {
    let common = |lengths: &Vec<Option<usize>>| match lengths.split_first() {
        Some((Some(first), rest)) if rest.iter().all(|length| length == &Some(*first)) => Some(*first),
        _ => None,
    };
    lengths.iter().map(common).collect()
}

/// Gives the invokes that see all prompts those of the others.
pub fn share_prompts<T: Clone>(graph: &Graph, prompts: &mut [Vec<T>]) {
    let own = graph.invokes.iter().zip(&*prompts).filter(|(invoke, _)| !invoke.all_prompts);
    let all = own.flat_map(|(_, prompts)| prompts).cloned().collect::<Vec<_>>();
    graph.invokes.iter().zip(prompts).filter(|(invoke, _)| invoke.all_prompts).for_each(|(_, prompts)| prompts.clone_from(&all));
}

fn run_batch(interleaver: &mut Interleaver<'_>, planned: &PassBatch, request: &mut Request<'_, '_>) -> Result<()> {
    for &node in &planned.before {
        interleaver.run(node)?;
    }
    let graph = interleaver.graph;
    let own = planned.invokes.iter().copied().filter(|invoke| !graph.invokes[invoke.index()].all_prompts).collect::<Vec<_>>();
    if own.is_empty() {
        // What depends on no prompt may wait all the same, for others to which the same module is applied.
        return interleaver.run_behind(&planned.after);
    }
    let batch = batch(interleaver, &own, planned, &request.tokens)?;
    let rows = own.iter().map(|invoke| invoke.index());
    let rows = rows.flat_map(|invoke| request.tokens[invoke].iter().enumerate().map(move |(prompt, tokens)| (invoke, prompt, tokens.as_slice())));
    let mut generator = planned.generation.as_ref().map(|settings| Generator::new(settings, request.vocabulary, rows));
    let wants_tokens = !planned.after.is_empty() || request.observer.on_token.is_some();
    let reached = run_steps(interleaver, batch, planned, generator.as_mut(), wants_tokens, &mut request.observer.on_token)?;
    interleaver.finish(reached)?;
    if let Some(generator) = generator {
        for &invoke in &planned.invokes {
            let (tokens, ended) = match graph.invokes[invoke.index()].all_prompts {
                true => (generator.all_tokens(), generator.all_ended()),
                false => (generator.tokens(invoke.index()), generator.ended(invoke.index())),
            };
            interleaver.keep_tokens(invoke, tokens, ended);
        }
    }
    interleaver.run_behind(&planned.after)
}

/// Runs the prompts' own pass, and those that follow it; gives how many there were.
fn run_steps(
    interleaver: &mut Interleaver<'_>,
    mut batch: TokenBatch,
    planned: &PassBatch,
    mut generator: Option<&mut Generator<'_>>,
    wants_tokens: bool,
    on_token: &mut Option<&mut dyn FnMut(Token)>,
) -> Result<usize> {
    let steps = planned.generation.as_ref().map_or(1, |generation| generation.max_new_tokens);
    let mut kv_cache = (steps > 1).then(KvCache::default);
    let model = interleaver.model;
    for step in 0..steps {
        batch.window = planned.window.filter(|_| step == 0);
        batch.cuts_last_layer = batch.window.is_some();
        let window = model.head().zip(batch.window);
        interleaver.start_pass(Pass { step: step as u32, batch: (batch.lengths().len(), batch.width()), window });
        let mut used = used_sites(&planned.visits, step as u32, interleaver.table.sites().len());
        if let (0, true, Some(embedding)) = (step, interleaver.has_embeddings(), interleaver.table.embedding()) {
            used[embedding] = true;
        }
        // A later pass begins with the token that this one leads to.
        let goes_on = |interleaver: &Interleaver<'_>| generator.is_some() && (wants_tokens || !interleaver.pass_is_last());
        let mut state = batch.tokens().clone();
        for stage in 0..model.count() {
            if interleaver.pass_is_done() && !goes_on(interleaver) {
                break;
            }
            state = model.stage(stage, state, &mut Cx::hooked(&used, interleaver, kv_cache.as_mut(), &batch))?;
        }
        let goes_on = goes_on(interleaver);
        interleaver.finish_pass()?;
        let (Some(generator), true) = (generator.as_deref_mut(), goes_on) else { return Ok(step + 1) };
        planned.invokes.iter().filter(|invoke| interleaver.is_ended(**invoke)).for_each(|invoke| generator.end(invoke.index(), step as u32));
        let last = state.narrow(1, state.dim(1)? - 1, 1)?.squeeze(1)?;
        let tokens = generator.choose(&last, step, on_token)?;
        if generator.is_done() {
            return Ok(step + 1);
        }
        batch = batch.next(&tokens)?;
    }
    Ok(steps)
}

/// Puts the prompts of some invokes together.
fn batch(interleaver: &mut Interleaver<'_>, own: &[InvokeId], planned: &PassBatch, tokens: &[Vec<Vec<u32>>]) -> Result<TokenBatch> {
    let prompts = own.iter().flat_map(|invoke| &tokens[invoke.index()]).map(Vec::as_slice).collect::<Vec<_>>();
    let mut batch = TokenBatch::new(&prompts, interleaver.model.device())?;
    let graph = interleaver.graph;
    let mut embeddings = Vec::new();
    let prompts = own
        .iter()
        .flat_map(|invoke| graph.invokes[invoke.index()].prompts.iter().enumerate().map(move |(prompt, content)| (invoke.index(), prompt, content)));
    for (row, (invoke, prompt, content)) in prompts.enumerate() {
        match content {
            Prompt::Masked { seen, .. } => batch = batch.hiding(row, seen)?,
            Prompt::Embeddings(constant) => {
                let length = batch.lengths()[row];
                let rows = Extent { axis: 0, span: Span { start: row, len: 1 } };
                let positions = Extent { axis: 1, span: Span { start: batch.width() - length, len: length } };
                let embeddings_of = constant.tensor.to_device(interleaver.model.device())?.to_dtype(interleaver.model.dtype())?;
                // In 16 bits, numbers become infinite that were not.
                if let Some(number) = not_finite(&embeddings_of)? {
                    return Err(Error::PromptNotFinite { number, invoke, prompt, source_line: None });
                }
                embeddings.push((vec![rows, positions], embeddings_of));
            }
            Prompt::Text(_) | Prompt::Tokens(_) | Prompt::Chat(_) => {}
        }
    }
    let mut layout = HashMap::new();
    let mut start = 0;
    for &invoke in &planned.invokes {
        let own = &tokens[invoke.index()];
        let longest = own.iter().map(Vec::len).max().unwrap_or(0);
        let all_prompts = graph.invokes[invoke.index()].all_prompts;
        let rows = Span { start: if all_prompts { 0 } else { start }, len: own.len() };
        let positions = Span { start: batch.width() - longest, len: longest };
        layout.insert(invoke, Place { rows, positions, before: 0 });
        start += if all_prompts { 0 } else { own.len() };
    }
    interleaver.start(layout, planned.visits.clone(), embeddings);
    Ok(batch)
}
