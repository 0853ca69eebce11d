//! Runs on equal prompts: the prompt once, and batches that branch off from it.

use std::collections::{BTreeMap, HashMap};

use candle_core::Tensor;

use super::interleave::{Interleaver, Pass, Rows};
use super::request::{Request, used_sites};
use crate::Result;
use crate::batch::{KvCache, TokenBatch};
use crate::graph::{InvokeId, Span};
use crate::module::Cx;
use crate::plan::{PassBatch, Share};

/// What branches need of the run that they branch off from.
#[derive(Default)]
pub(super) struct Base {
    /// What the model held before the stages at which others branch off.
    states: BTreeMap<usize, Tensor>,
    kv_cache: KvCache,
    /// How many positions there are, padding included.
    width: usize,
}

/// Runs each prompt of a batch once.
pub(super) fn run_base(interleaver: &mut Interleaver<'_>, planned: &PassBatch, request: &Request<'_, '_>) -> Result<Base> {
    let (rows, keeps, until, remembers, checks, reads) = match &planned.share {
        Share::Base { rows, keeps, until, remembers, checks, reads } => (rows, keeps, *until, *remembers, checks, reads),
        _ => return Ok(Base::default()),
    };
    planned.before.iter().try_for_each(|&node| interleaver.run(node))?;
    let model = interleaver.model;
    let mut prompts = vec![[].as_slice(); rows.values().map(|rows| rows.start + rows.len).max().unwrap_or(0)];
    for (invoke, rows) in rows {
        prompts[rows.start..rows.start + rows.len].iter_mut().zip(&request.tokens[invoke.index()]).for_each(|(prompt, tokens)| *prompt = tokens);
    }
    let mut batch = TokenBatch::new(&prompts, model.device())?;
    batch.window = planned.window;
    // Others may branch off behind the last layer.
    batch.cuts_last_layer = planned.window.is_some() && keeps.last().is_none_or(|&last| last + 1 < model.count());
    let place = |(&invoke, &rows): (&InvokeId, &Span)| {
        let longest = prompts[rows.start..rows.start + rows.len].iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        (invoke, Rows { rows, positions: Span { start: batch.width() - longest, len: longest }, before: 0 })
    };
    interleaver.start(rows.iter().map(place).collect(), planned.visits.clone(), Vec::new());
    interleaver.start_pass(Pass { step: 0, batch: (prompts.len(), batch.width()), window: model.head().zip(batch.window) });
    let mut used = used_sites(&planned.visits, 0, interleaver.table.sites().len());
    for site in interleaver.start_checks(checks, reads) {
        used[site] = true;
    }
    let checked = checks.keys().filter_map(|&site| interleaver.table.stage_of(site)).max();
    let (mut kv_cache, mut states) = (KvCache::default(), BTreeMap::new());
    let mut state = batch.tokens().clone();
    for stage in 0..model.count() {
        if keeps.contains(&stage) {
            states.insert(stage, state.clone());
        }
        let later = keeps.range(stage + 1..).next().is_some() || remembers && stage <= until;
        let wanted = later || checked >= Some(stage) || interleaver.shows_until() >= Some(stage);
        if interleaver.pass_is_done() && !wanted {
            break;
        }
        state = model.stage(stage, state, &mut Cx::hooked(&used, interleaver, Some(&mut kv_cache), &batch))?;
    }
    interleaver.end_checks();
    interleaver.finish_pass()?;
    interleaver.finish(1)?;
    interleaver.run_behind(&planned.after)?;
    Ok(Base { states, kv_cache, width: batch.width() })
}

/// Runs a batch that branches off from a base, and grows where further runs come in.
pub(super) fn run_branch(interleaver: &mut Interleaver<'_>, planned: &PassBatch, base: &Base, request: &Request<'_, '_>) -> Result<()> {
    let Share::Branch { rows, from, entries, .. } = &planned.share else { return Ok(()) };
    let (rows, from) = (*rows, *from);
    planned.before.iter().try_for_each(|&node| interleaver.run(node))?;
    // Runs whose edit changes nothing do not come in.
    let entries = entries.iter().copied().filter(|(invoke, _)| !interleaver.is_noop(*invoke)).collect::<Vec<_>>();
    interleaver.start(HashMap::new(), planned.visits.clone(), Vec::new());
    let Some(&(first, first_stage)) = entries.first() else {
        interleaver.finish_pass()?;
        interleaver.finish(1)?;
        return interleaver.run_behind(&planned.after);
    };
    let model = interleaver.model;
    let prompts = request.tokens[first.index()].iter().map(Vec::as_slice).collect::<Vec<_>>();
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    let padding = base.width - longest;
    let kept = Span { start: padding + from, len: longest - from };
    let used = used_sites(&planned.visits, 0, interleaver.table.sites().len());
    let mut batch = TokenBatch::new(&[], model.device())?;
    let mut state: Option<Tensor> = None;
    let mut entered = 0;
    for stage in first_stage..model.count() {
        let enters = entries[entered..].iter().take_while(|(_, at)| *at <= stage).count();
        if let (1.., Some(here)) = (enters, base.states.get(&stage)) {
            let here = here.narrow(0, rows.start, rows.len)?.narrow(1, kept.start, kept.len)?;
            let copies = std::iter::repeat_n(here, enters);
            state = Some(Tensor::cat(&state.take().into_iter().chain(copies).collect::<Vec<_>>(), 0)?);
            for (invoke, _) in &entries[entered..entered + enters] {
                let own = Span { start: entered * rows.len, len: rows.len };
                interleaver.place(*invoke, Rows { rows: own, positions: Span { start: 0, len: kept.len }, before: from });
                entered += 1;
            }
            batch = TokenBatch::behind(&prompts.repeat(entered), from, model.device())?;
            batch.window = planned.window;
            batch.cuts_last_layer = planned.window.is_some() && !entries[entered..].iter().any(|(_, at)| at + 1 >= model.count());
            interleaver.start_pass(Pass { step: 0, batch: (entered * rows.len, kept.len), window: model.head().zip(batch.window) });
        }
        let Some(before) = state.take() else { break };
        if interleaver.pass_is_done() {
            break;
        }
        let mut kv_cache = match from {
            0 => None,
            from => Some(base.kv_cache.branch(rows, padding, from)?),
        };
        state = Some(model.stage(stage, before, &mut Cx::hooked(&used, interleaver, kv_cache.as_mut(), &batch))?);
    }
    interleaver.finish_pass()?;
    interleaver.finish(1)?;
    interleaver.run_behind(&planned.after)
}
