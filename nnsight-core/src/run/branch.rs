//! Runs on equal prompts: the prompt once, and batches that branch off from it.

use std::collections::{BTreeMap, HashMap};

use super::execute::inputs_of;
use super::inputs::{InputId, Inputs};
use super::interleave::{Interleaver, Pass, Rows};
use super::request::used_sites;
use super::state::AnyState;
use crate::Result;
use crate::batch::Wanted;
use crate::graph::{InvokeId, Span};
use crate::module::{Cx, States};
use crate::plan::{PassBatch, Share};

/// What branches need of the run that they branch off from.
#[derive(Default)]
pub(super) struct Base {
    /// What the model held before the stages at which others branch off.
    held: BTreeMap<usize, AnyState>,
    /// What its modules keep.
    states: States,
    /// How many positions there are, padding included.
    width: usize,
}

/// Runs each prompt of a batch once.
pub(super) fn run_base(interleaver: &mut Interleaver<'_>, planned: &PassBatch, lengths: &[Vec<usize>], inputs: &dyn Inputs) -> Result<Base> {
    let (rows, keeps, until, remembers, checks, reads) = match &planned.share {
        Share::Base { rows, keeps, until, remembers, checks, reads } => (rows, keeps, *until, *remembers, checks, reads),
        _ => return Ok(Base::default()),
    };
    planned.before.iter().try_for_each(|&node| interleaver.run(node))?;
    let model = interleaver.model;
    let mut all = vec![None; rows.values().map(|rows| rows.start + rows.len).max().unwrap_or(0)];
    for (&invoke, rows) in rows {
        let own = inputs_of(invoke, &lengths[invoke.index()]);
        all[rows.start..rows.start + rows.len].iter_mut().zip(own).for_each(|(row, input)| *row = Some(input));
    }
    let all = all.into_iter().flatten().collect::<Vec<InputId>>();
    let batch = inputs.batch(&all, model.device(), model.dtype())?.batch;
    // Others may branch off behind the last layer.
    let wanted = Wanted::of(planned.window, keeps.last().is_none_or(|&last| last + 1 < model.count()));
    let place = |(&invoke, &rows): (&InvokeId, &Span)| {
        let longest = lengths[invoke.index()].iter().copied().max().unwrap_or(0);
        (invoke, Rows { rows, positions: Span { start: batch.width() - longest, len: longest }, before: 0 })
    };
    interleaver.start(rows.iter().map(place).collect(), planned.visits.clone(), Vec::new());
    interleaver.start_pass(Pass { step: 0, batch: (batch.rows(), batch.width()), window: model.head().zip(wanted.window()) });
    let mut used = used_sites(&planned.visits, 0, interleaver.table.sites().len());
    for site in interleaver.start_checks(checks, reads) {
        used[site] = true;
    }
    let checked = checks.keys().filter_map(|&site| interleaver.table.stage_of(site)).max();
    let (mut states, mut held) = (States::default(), BTreeMap::new());
    let mut state = model.begin(&mut Cx::hooked(&used, interleaver, Some(&mut states), &*batch, wanted))?;
    for stage in 0..model.count() {
        if keeps.contains(&stage) {
            held.insert(stage, state.clone());
        }
        let later = keeps.range(stage + 1..).next().is_some() || remembers && stage <= until;
        let needed = later || checked >= Some(stage) || interleaver.shows_until() >= Some(stage);
        if interleaver.pass_is_done() && !needed {
            break;
        }
        state = model.stage(stage, state, &mut Cx::hooked(&used, interleaver, Some(&mut states), &*batch, wanted))?;
    }
    interleaver.end_checks();
    interleaver.finish_pass()?;
    interleaver.finish(1)?;
    interleaver.run_behind(&planned.after)?;
    Ok(Base { held, states, width: batch.width() })
}

/// Runs a batch that branches off from a base, and grows where further runs come in.
pub(super) fn run_branch(
    interleaver: &mut Interleaver<'_>,
    planned: &PassBatch,
    base: &Base,
    lengths: &[Vec<usize>],
    inputs: &dyn Inputs,
) -> Result<()> {
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
    let own = inputs_of(first, &lengths[first.index()]).collect::<Vec<_>>();
    let longest = lengths[first.index()].iter().copied().max().unwrap_or(0);
    let padding = base.width - longest;
    let kept = Span { start: padding + from, len: longest - from };
    let used = used_sites(&planned.visits, 0, interleaver.table.sites().len());
    let mut batch = inputs.branch(&[], from, model.device())?;
    let mut wanted = Wanted::All;
    let mut state: Option<AnyState> = None;
    let mut entered = 0;
    // Every stage begins with what the base kept, and adds nothing to it.
    let mut states = match from {
        0 => None,
        from => Some(base.states.branch(rows, padding, from)?),
    };
    for stage in first_stage..model.count() {
        let enters = entries[entered..].iter().take_while(|(_, at)| *at <= stage).count();
        if let (1.., Some(here)) = (enters, base.held.get(&stage)) {
            let here = here.part(rows, kept)?;
            let copies = std::iter::repeat_n(here, enters);
            state = AnyState::cat(&state.take().into_iter().chain(copies).collect::<Vec<_>>())?;
            for (invoke, _) in &entries[entered..entered + enters] {
                let own = Span { start: entered * rows.len, len: rows.len };
                interleaver.place(*invoke, Rows { rows: own, positions: Span { start: 0, len: kept.len }, before: from });
                entered += 1;
            }
            batch = inputs.branch(&own.repeat(entered), from, model.device())?;
            wanted = Wanted::of(planned.window, !entries[entered..].iter().any(|(_, at)| at + 1 >= model.count()));
            interleaver.start_pass(Pass { step: 0, batch: (entered * rows.len, kept.len), window: model.head().zip(wanted.window()) });
        }
        let Some(before) = state.take() else { break };
        if interleaver.pass_is_done() {
            break;
        }
        state = Some(model.stage(stage, before, &mut Cx::hooked(&used, interleaver, states.as_mut(), &*batch, wanted))?);
    }
    interleaver.finish_pass()?;
    interleaver.finish(1)?;
    interleaver.run_behind(&planned.after)
}
