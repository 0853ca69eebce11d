//! The steps of a generation as coordinates of sites.

use std::ops::{Bound, Deref, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo};

use super::index::Index;
use super::{Caching, Interface, Keep, Tracer, Value};
use crate::Error;
use crate::graph::{At, InvokeId, Op, Unreached};
use crate::types::{Kind, Shape};

/// A model whose runs go on after their first pass, as the block of `generate!` sees it.
///
/// A site belongs to a step: `step(0)` is the inputs' own pass, and every later step begins with what the one before it led to. The model itself has no sites to read or to edit here, only
/// modules to be applied by hand, such as `model.norm(h)`.
pub struct Generating<'t, M: Interface> {
    tracer: &'t Tracer,
    invoke: InvokeId,
    /// How many steps there are at most.
    steps: u32,
    /// Outside of any pass: its modules can be applied, its sites belong to no step.
    modules: M::Sites<'t>,
}

impl<M: Interface> Clone for Generating<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Interface> Copy for Generating<'_, M> {}

impl<'t, M: Interface> Deref for Generating<'t, M> {
    type Target = M::Sites<'t>;
    fn deref(&self) -> &M::Sites<'t> {
        &self.modules
    }
}

impl<'t, M: Interface> Generating<'t, M> {
    pub(crate) fn new(tracer: &'t Tracer, invoke: InvokeId, steps: usize) -> Self {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        Generating { tracer, invoke, steps, modules: tracer.sites::<M>(None) }
    }

    /// The inputs' own pass, at all of their positions: step 0.
    pub fn first(&self) -> Step<'t, M> {
        self.at(0, Unreached::Refuse)
    }

    /// One step, from 0; negative numbers count back from the last that there can be. If the run ends before it, the trace fails and says so.
    #[track_caller]
    pub fn step(&self, index: impl Index) -> Step<'t, M> {
        let index = index.index();
        let resolved = if index < 0 { index + i64::from(self.steps) } else { index };
        let step = u32::try_from(resolved).ok().filter(|&step| step < self.steps);
        if step.is_none() {
            self.tracer.fail(|source_line| Error::NoStep { step: index, steps: self.steps as usize, source_line });
        }
        self.at(step.unwrap_or(0), Unreached::Refuse)
    }

    /// Some of the steps: `..`, `2..`, `0..5`, `[0, 2]`. Those that the run does not reach are left out of what is saved; where they were
    /// named one by one or by their end, a line on standard error says so. Naming one that there cannot be makes the trace fail.
    #[track_caller]
    pub fn steps(&self, which: impl Steps) -> StepList<'t, M> {
        let (numbers, unreached) = which.numbers(self.steps);
        if let Some(&step) = numbers.iter().find(|&&step| step >= self.steps) {
            self.tracer.fail(|source_line| Error::NoStep { step: i64::from(step), steps: self.steps as usize, source_line });
        }
        StepList(numbers.into_iter().filter(|&step| step < self.steps).map(|step| self.at(step, unreached)).collect())
    }

    /// What comes out of the rollout, at its end; the kind of model knows of which axes and kind it is.
    #[track_caller]
    pub fn output<S: Shape, K: Kind>(&self) -> Value<'t, M::Signature, S, K> {
        Value::new(self.tracer, self.tracer.push(Op::Output { invoke: self.invoke }, &[]))
    }

    /// Keeps what modules are given and give, at every step that there is.
    #[track_caller]
    pub fn cache(&self, keep: &Keep) -> Caching {
        let passes = (0..self.steps).map(|step| At { invoke: self.invoke, step, unreached: Unreached::Drop }).collect::<Vec<_>>();
        Caching::new(self.tracer, &passes, "", keep)
    }

    fn at(&self, step: u32, unreached: Unreached) -> Step<'t, M> {
        let at = At { invoke: self.invoke, step, unreached };
        Step { tracer: self.tracer, at, steps: self.steps, sites: self.tracer.sites::<M>(Some(at)) }
    }
}

/// The sites of a model at one step of a generation.
pub struct Step<'t, M: Interface> {
    tracer: &'t Tracer,
    at: At,
    steps: u32,
    sites: M::Sites<'t>,
}

impl<M: Interface> Clone for Step<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Interface> Copy for Step<'_, M> {}

impl<'t, M: Interface> Deref for Step<'t, M> {
    type Target = M::Sites<'t>;
    fn deref(&self) -> &M::Sites<'t> {
        &self.sites
    }
}

impl<M: Interface> Step<'_, M> {
    /// Its number; 0 is the prompts' own pass.
    pub fn index(&self) -> usize {
        self.at.step as usize
    }

    /// The step after this one. Where there can be none, the trace fails with this line.
    #[track_caller]
    pub fn next(&self) -> Self {
        let step = self.at.step + 1;
        if step >= self.steps {
            self.tracer.fail(|source_line| Error::NoStep { step: i64::from(step), steps: self.steps as usize, source_line });
            return *self;
        }
        let at = At { step, ..self.at };
        Step { at, sites: self.tracer.sites::<M>(Some(at)), ..*self }
    }
}

/// Some steps of a generation, in order.
pub struct StepList<'t, M: Interface>(Vec<Step<'t, M>>);

impl<'t, M: Interface> StepList<'t, M> {
    /// A value for each step. Saved, it becomes a list that is as long as the run was.
    pub fn map<T>(self, each: impl FnMut(Step<'t, M>) -> T) -> Vec<T> {
        self.0.into_iter().map(each).collect()
    }

    /// The steps.
    pub fn iter(&self) -> std::slice::Iter<'_, Step<'t, M>> {
        self.0.iter()
    }
}

impl<'t, M: Interface> IntoIterator for StepList<'t, M> {
    type Item = Step<'t, M>;
    type IntoIter = std::vec::IntoIter<Step<'t, M>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What can be said of which steps: a number, a range, a list.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name steps",
    note = "what does is `..`, `2..`, `0..5`, a number, an array or `Vec` of numbers"
)]
pub trait Steps {
    /// The numbers, of at most `steps`, and what becomes of those that are not reached.
    #[doc(hidden)]
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached);
}

impl Steps for RangeFull {
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
        ((0..steps).collect(), Unreached::Drop)
    }
}

/// Steps from one to before another; numbers below 0 count from the end.
fn between(start: Bound<i64>, end: Bound<i64>, steps: u32) -> Vec<u32> {
    let steps = i64::from(steps);
    let from_end = |index: i64| if index < 0 { index + steps } else { index };
    let start = match start {
        Bound::Included(start) => from_end(start),
        Bound::Excluded(start) => from_end(start) + 1,
        Bound::Unbounded => 0,
    };
    let end = match end {
        Bound::Included(end) => from_end(end) + 1,
        Bound::Excluded(end) => from_end(end),
        Bound::Unbounded => steps,
    };
    // One past the last is enough to see that there are too many.
    (start.max(0)..end.min(steps + 1)).map(|step| step as u32).collect()
}

impl<I: Index> Steps for RangeFrom<I> {
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
        (between(Bound::Included(self.start.index()), Bound::Unbounded, steps), Unreached::Drop)
    }
}
impl<I: Index> Steps for Range<I> {
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
        (between(Bound::Included(self.start.index()), Bound::Excluded(self.end.index()), steps), Unreached::Note)
    }
}
impl<I: Index> Steps for RangeTo<I> {
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
        (between(Bound::Unbounded, Bound::Excluded(self.end.index()), steps), Unreached::Note)
    }
}
impl<I: Index + Copy> Steps for RangeInclusive<I> {
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
        (between(Bound::Included(self.start().index()), Bound::Included(self.end().index()), steps), Unreached::Note)
    }
}

fn listed<I: Index>(list: impl IntoIterator<Item = I>, steps: u32) -> (Vec<u32>, Unreached) {
    let mut numbers = Vec::new();
    for index in list {
        let index = index.index();
        let from_end = if index < 0 { index + i64::from(steps) } else { index };
        numbers.push(u32::try_from(from_end).unwrap_or(u32::MAX));
    }
    (numbers, Unreached::Note)
}

impl<I: Index, const N: usize> Steps for [I; N] {
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
        listed(self, steps)
    }
}
impl<I: Index> Steps for Vec<I> {
    fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
        listed(self, steps)
    }
}
macro_rules! one_step {
    ($($number:ty),+) => {$(
        impl Steps for $number {
            fn numbers(self, steps: u32) -> (Vec<u32>, Unreached) {
                listed([self], steps)
            }
        }
    )+};
}
one_step!(i32, usize, u32);
