//! `if` on a value: both branches are recorded, one runs.

use super::value::Value;
use crate::graph::{Guard, Op};
use crate::types::{Bool, Kind, Shape, Signature};

/// What may stand between `if` and its block.
#[diagnostic::on_unimplemented(
    message = "`if` needs a `bool`, or a traced value that is a single truth value",
    label = "not a condition",
    note = "reduce the value first: `h.mean_all().gt(0.0)`"
)]
pub trait IntoCondition {
    #[doc(hidden)]
    type Condition;
    #[doc(hidden)]
    fn __condition(self) -> Self::Condition;
}

impl IntoCondition for bool {
    type Condition = Plain;
    fn __condition(self) -> Plain {
        Plain(self)
    }
}

impl<'t, C> IntoCondition for Value<'t, C, (), Bool> {
    type Condition = Recorded<'t, C>;
    fn __condition(self) -> Recorded<'t, C> {
        Recorded(self)
    }
}

/// A condition that is known while the trace is built.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Plain(bool);

impl Plain {
    pub fn enter_then(&self) -> bool {
        self.0
    }
    pub fn enter_else(&self) -> bool {
        !self.0
    }
    pub fn merge<T>(self, then: Option<T>, otherwise: Option<T>) -> T {
        then.or(otherwise).expect("one of the branches is run")
    }
}

/// A condition that is known when the trace runs.
#[doc(hidden)]
pub struct Recorded<'t, C>(Value<'t, C, (), Bool>);

impl<'t, C> Recorded<'t, C> {
    pub fn enter_then(&self) -> bool {
        self.0.tracer.open_branch(Guard { condition: self.0.id, when: true });
        true
    }
    pub fn enter_else(&self) -> bool {
        self.0.tracer.close_branch();
        self.0.tracer.open_branch(Guard { condition: self.0.id, when: false });
        true
    }
    #[track_caller]
    pub fn merge<T: Merge<'t, C>>(self, then: Option<T>, otherwise: Option<T>) -> T {
        self.0.tracer.close_branch();
        match (then, otherwise) {
            (Some(then), Some(otherwise)) => then.merge(otherwise, self.0),
            _ => unreachable!("both branches are recorded"),
        }
    }
}

/// What both branches of an `if` on a value may give.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the branches of an `if` on a traced value cannot give `{Self}`",
    note = "both branches are recorded and one is run, so that what they give must be a value of the trace, or nothing"
)]
pub trait Merge<'t, C> {
    #[track_caller]
    fn merge(self, otherwise: Self, condition: Value<'t, C, (), Bool>) -> Self;
}

impl<'t, C> Merge<'t, C> for () {
    fn merge(self, (): (), _condition: Value<'t, C, (), Bool>) {}
}

impl<'t, C: Signature, S: Shape, K: Kind> Merge<'t, C> for Value<'t, C, S, K> {
    fn merge(self, otherwise: Self, condition: Value<'t, C, (), Bool>) -> Self {
        Value::new(self.tracer, self.tracer.push(Op::Choose, &[condition.id, self.id, otherwise.id]))
    }
}

macro_rules! merge_tuple {
    ($($name:ident $index:tt),+) => {
        impl<'t, C, $($name: Merge<'t, C>),+> Merge<'t, C> for ($($name,)+) {
            fn merge(self, otherwise: Self, condition: Value<'t, C, (), Bool>) -> Self {
                ($(self.$index.merge(otherwise.$index, condition),)+)
            }
        }
    };
}
merge_tuple!(A 0);
merge_tuple!(A 0, B 1);
merge_tuple!(A 0, B 1, D 2);
merge_tuple!(A 0, B 1, D 2, E 3);
