//! `if` on a value: both branches are recorded, one runs.

use super::traced::Traced as _;
use super::value::Value;
use super::{Site, SitePart};
use crate::graph::{Compare, Guard, Op};
use crate::types::{Bool, Int, Kind, Shape, Signature};

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

/// What may stand between `while` and its block.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`while` needs a `bool`: how often it goes round is known before the trace runs",
    label = "a value that exists when the trace runs",
    note = "a loop that runs with the model is `repeat_while(h, |h| h.norm_all().gt(1.0), |h| h * 0.5)`"
)]
pub trait WhileCondition {
    fn __while(self) -> bool;
}
impl WhileCondition for bool {
    fn __while(self) -> bool {
        self
    }
}

/// What `match` compares with whole numbers: a whole number, or a traced value that is one.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`match` with whole numbers needs a whole number, or a traced value that is one, and not `{Self}`",
    note = "reduce the value first: `logits.at(Batch, 0).argmax_all()`"
)]
pub trait MatchNumber {
    type Is;
    fn __is(&self, number: i64) -> Self::Is;
}

macro_rules! match_number {
    ($($number:ty),+) => {$(
        impl MatchNumber for $number {
            type Is = bool;
            fn __is(&self, number: i64) -> bool {
                super::index::Index::index(*self) == number
            }
        }
        impl MatchNumber for &$number {
            type Is = bool;
            fn __is(&self, number: i64) -> bool {
                super::index::Index::index(**self) == number
            }
        }
    )+};
}
match_number!(i32, i64, isize, u32, u64, usize, u8);

macro_rules! match_traced {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature> MatchNumber for $place<'t, C, (), Int> {
            type Is = Value<'t, C, (), Bool>;
            #[track_caller]
            fn __is(&self, number: i64) -> Self::Is {
                let value = self.value();
                let number = value.tracer.push(Op::Scalar(number as f64), &[]);
                value.then_with(Op::Compare(Compare::Eq), number)
            }
        }
    )+};
}
match_traced!(Value, Site, SitePart);

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
    #[track_caller]
    pub fn enter_then(&self) -> bool {
        self.0.tracer.open_branch(Guard { condition: self.0.id, when: true });
        true
    }
    #[track_caller]
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
