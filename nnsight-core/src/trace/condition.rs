//! `if` on a value: both branches are recorded, one runs.

use std::convert::Infallible;
use std::ops::ControlFlow;

use super::binding::Probe;
use super::traced::Traced as _;
use super::value::Value;
use super::{Site, SitePart};
use crate::graph::{Compare, Guard, Op};
use crate::types::{Bool, Int, Kind, Shape, Signature};

/// What may be the condition of an `if`.
#[diagnostic::on_unimplemented(
    message = "`if` needs a `bool`, or a traced value that is a single boolean",
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
    fn __is(&self, number: i128) -> Self::Is;
}

macro_rules! match_number {
    ($($number:ty),+) => {$(
        impl MatchNumber for $number {
            type Is = bool;
            fn __is(&self, number: i128) -> bool {
                i128::try_from(*self).is_ok_and(|own| own == number)
            }
        }
    )+};
}
match_number!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

impl<N: MatchNumber + ?Sized> MatchNumber for &N {
    type Is = N::Is;
    #[track_caller]
    fn __is(&self, number: i128) -> N::Is {
        N::__is(self, number)
    }
}
impl<N: MatchNumber + ?Sized> MatchNumber for &mut N {
    type Is = N::Is;
    #[track_caller]
    fn __is(&self, number: i128) -> N::Is {
        N::__is(self, number)
    }
}

macro_rules! match_traced {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature> MatchNumber for $place<'t, C, (), Int> {
            type Is = Value<'t, C, (), Bool>;
            #[track_caller]
            fn __is(&self, number: i128) -> Self::Is {
                let value = self.value();
                let number = value.tracer.push(Op::Scalar(number as f64), &[]);
                value.then_with(Op::Compare(Compare::Eq), number)
            }
        }
    )+};
}
match_traced!(Value, Site, SitePart);

/// A condition that is known while the trace is recorded: everything is what it is in plain Rust.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Plain(bool);

impl Plain {
    pub fn enter_then(&self) -> bool {
        self.0
    }
    /// After the first branch the `if` ends.
    pub fn leave_then<T>(&self, then: T) -> ControlFlow<T, Infallible> {
        ControlFlow::Break(then)
    }
    pub fn both(&self, then: Infallible) -> Infallible {
        then
    }
    pub fn enter_else(&self) {}
    pub fn merge<T>(self, _then: Option<Infallible>, otherwise: T) -> T {
        otherwise
    }
    pub fn before<T: ?Sized>(&self, _variable: &T) {}
    pub fn swap<T: ?Sized>(&self, _variable: &mut T, (): ()) {}
    pub fn settle<T: ?Sized>(&self, _variable: &mut T, (): ()) {}
    pub fn may_change<T: ?Sized>(&self, _variable: &T) {}
    pub fn may_assign<T: ?Sized>(&self, _place: Probe<T>) {}
    pub fn may_return(&self) {}
    pub fn may_fail(&self) {}
    pub fn may_print(&self) {}
    pub fn may_panic(&self) {}
    pub fn leave(&self) {}
}

/// A condition that is known when the trace runs: both branches are recorded.
#[doc(hidden)]
pub struct Recorded<'t, C>(Value<'t, C, (), Bool>);

impl<'t, C> Recorded<'t, C> {
    #[track_caller]
    pub fn enter_then(&self) -> bool {
        self.0.tracer.open_branch(Guard { condition: self.0.id, when: true });
        true
    }
    /// After the first branch comes the second.
    pub fn leave_then<T>(&self, then: T) -> ControlFlow<T, T> {
        ControlFlow::Continue(then)
    }
    pub fn both<T>(&self, then: T) -> T {
        then
    }
    #[track_caller]
    pub fn enter_else(&self) {
        self.0.tracer.close_branch();
        self.0.tracer.open_branch(Guard { condition: self.0.id, when: false });
    }
    #[track_caller]
    pub fn merge<T: Merge<'t, C>>(&self, then: Option<T>, otherwise: T) -> T {
        self.0.tracer.close_branch();
        match then {
            Some(then) => then.merge(otherwise, self.0),
            None => otherwise,
        }
    }

    /// What a variable from outside holds before the branches, one of which assigns to it.
    pub fn before<T: Selectable<'t, C>>(&self, variable: &T) -> T {
        *variable
    }
    /// Ends the first branch for a variable: what that assigned is returned, and the second begins with what was there before.
    pub fn swap<T: Selectable<'t, C>>(&self, variable: &mut T, before: T) -> T {
        std::mem::replace(variable, before)
    }
    /// After both branches, a variable holds what the branch that runs assigned.
    #[track_caller]
    pub fn settle<T: Selectable<'t, C>>(&self, variable: &mut T, then: T) {
        *variable = then.merge(*variable, self.0);
    }

    pub fn may_change<T: MayChange + ?Sized>(&self, _variable: &T) {}
    pub fn may_assign<T: MayAssign + ?Sized>(&self, _place: Probe<T>) {}
    pub fn may_return(&self)
    where
        Self: MayReturn,
    {
    }
    pub fn may_fail(&self)
    where
        Self: MayFail,
    {
    }
    pub fn may_print(&self)
    where
        Self: MayPrint,
    {
    }
    pub fn may_panic(&self)
    where
        Self: MayPanic,
    {
    }
    #[track_caller]
    pub fn leave(&self) {
        self.0.tracer.fail(|source_line| crate::Error::OpenBranch { source_line });
    }
}

macro_rules! refused {
    ($($trait:ident $message:literal $note:literal;)+) => {$(
        #[doc(hidden)]
        #[diagnostic::on_unimplemented(
            message = $message,
            label = "this would happen while the block is recorded, whatever the value is",
            note = $note
        )]
        pub trait $trait {}
    )+};
}
refused! {
    MayReturn "an `if` on a traced value cannot be left with `return`"
        "both branches are recorded before anything runs; let the `if` have a value, or use `stop!(site)` to end the run of its prompts";
    MayFail "`?` cannot be used inside of an `if` on a traced value"
        "both branches are recorded before anything runs; compute what may fail before the `if`";
    MayPrint "nothing can be printed inside of an `if` on a traced value by a macro of the host"
        "both branches are recorded before anything runs; `value.log(\"label\")` prints when the branch is run";
    MayPanic "an `if` on a traced value cannot panic or end the program"
        "both branches are recorded before anything runs; save the value, and test it after the trace";
}

/// What may be assigned to inside of an `if` on a traced value: places of the model.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a field or entry of type `{Self}` cannot be assigned inside of an `if` on a traced value",
    label = "this would be assigned while the block is recorded, whatever the value is",
    note = "both branches are recorded before anything runs; assign to a variable that holds a traced value, or let the `if` have a value",
    note = "if the condition is a `bool`, write `let c: bool = …; if c {{ … }}`"
)]
pub trait MayAssign {}
impl<C, S, K> MayAssign for Site<'_, C, S, K> {}
impl<C, S, K> MayAssign for SitePart<'_, C, S, K> {}
impl<C, S, K> MayAssign for super::Gradient<'_, C, S, K> {}

/// What a method may be called on inside of an `if` on a traced value, though it is a variable from outside.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a variable of type `{Self}` from outside cannot be changed inside of an `if` on a traced value",
    label = "this would happen while the block is recorded, whatever the value is",
    note = "both branches are recorded before anything runs; let the `if` have a traced value in both branches, and use that after it",
    note = "if the condition is a `bool`, write `let c: bool = …; if c {{ … }}`"
)]
pub trait MayChange {}
macro_rules! may_change {
    ($($traced:ident),+) => {$(
        impl<C, S, K> MayChange for $traced<'_, C, S, K> {}
        impl<C, S, K> MayChange for &$traced<'_, C, S, K> {}
    )+};
}
may_change!(Value, Site, SitePart);

/// What a variable from outside may hold that is assigned to inside of an `if` on a traced value.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a variable of type `{Self}` cannot be assigned inside of an `if` on a traced value",
    label = "this would be assigned while the block is recorded, whatever the value is",
    note = "both branches are recorded before anything runs; a variable that holds a traced value becomes a selection by the condition, anything else cannot",
    note = "if the condition is a `bool`, write `let c: bool = …; if c {{ … }}`"
)]
pub trait Selectable<'t, C>: Merge<'t, C> + Copy {}
#[diagnostic::do_not_recommend]
impl<'t, C, T: Merge<'t, C> + Copy> Selectable<'t, C> for T {}

/// What both branches of an `if` on a value may end with.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the branches of an `if` on a traced value cannot have the type `{Self}`",
    note = "both branches are recorded and one is run, so they must end with a value of the trace, or with nothing",
    note = "if the condition is a `bool`, write `let c: bool = …; if c {{ … }}`"
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
        if self.id == otherwise.id {
            return self;
        }
        Value::new(self.tracer, self.tracer.push(Op::Choose, &[condition.id, self.id, otherwise.id]))
    }
}

impl<'t, C, T: Merge<'t, C>, const N: usize> Merge<'t, C> for [T; N] {
    fn merge(self, otherwise: Self, condition: Value<'t, C, (), Bool>) -> Self {
        let mut otherwise = otherwise.into_iter();
        self.map(|then| {
            let otherwise = otherwise.next().expect("both arrays have as many entries");
            then.merge(otherwise, condition)
        })
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
