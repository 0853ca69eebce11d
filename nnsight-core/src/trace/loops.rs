//! Loops that run with the model: how often they go round depends on values.

use super::traced::Traced;
use super::value::Value;
use super::{Site, SitePart, Tracer};
use crate::graph::NodeId;
use crate::types::{Bool, HasAxis, Kind, Shape, Signature};

/// What a loop may carry from one round to the next: a value, or a tuple of values.
#[diagnostic::on_unimplemented(
    message = "a loop cannot carry `{Self}` from one round to the next",
    note = "what it can is a value or site, or a tuple of up to four"
)]
pub trait Carried<'t>: Sized {
    /// What it is in the loop and after it.
    type Value: Copy;
    #[doc(hidden)]
    #[track_caller]
    fn ids(self, into: &mut Vec<NodeId>) -> &'t Tracer;
    #[doc(hidden)]
    fn from_ids(tracer: &'t Tracer, ids: &mut impl Iterator<Item = NodeId>) -> Self::Value;
}

macro_rules! carried {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature, S: Shape, K: Kind> Carried<'t> for $place<'t, C, S, K> {
            type Value = Value<'t, C, S, K>;
            fn ids(self, into: &mut Vec<NodeId>) -> &'t Tracer {
                let value = self.value();
                into.push(value.id);
                value.tracer
            }
            fn from_ids(tracer: &'t Tracer, ids: &mut impl Iterator<Item = NodeId>) -> Self::Value {
                Value::new(tracer, ids.next().expect("there is an id for every carried value"))
            }
        }
    )+};
}
carried!(Value, Site, SitePart);

macro_rules! carried_tuple {
    ($first:ident $zero:tt $(, $name:ident $index:tt)*) => {
        impl<'t, $first: Carried<'t> $(, $name: Carried<'t>)*> Carried<'t> for ($first, $($name,)*) {
            type Value = ($first::Value, $($name::Value,)*);
            fn ids(self, into: &mut Vec<NodeId>) -> &'t Tracer {
                let tracer = self.$zero.ids(into);
                $(self.$index.ids(into);)*
                tracer
            }
            fn from_ids(tracer: &'t Tracer, ids: &mut impl Iterator<Item = NodeId>) -> Self::Value {
                ($first::from_ids(tracer, ids), $($name::from_ids(tracer, ids),)*)
            }
        }
    };
}
carried_tuple!(A 0);
carried_tuple!(A 0, B 1);
carried_tuple!(A 0, B 1, D 2);
carried_tuple!(A 0, B 1, D 2, E 3);

/// Goes on while a condition on what is carried holds: `while_loop(h, |h| h.norm_all().gt(1.0), |h| h * 0.5)`.
///
/// The closures are called once, to record a round; how many rounds there are is known when the trace runs. A round computes: it reads sites
/// as they are before the loop, and writes to none.
///
/// # Errors
/// The trace fails with this line where a round changes the shape of what it carries, or where there are more than 100,000 rounds.
#[track_caller]
pub fn while_loop<'t, C: Signature, T: Carried<'t>, R: Carried<'t, Value = T::Value>>(
    initial: T,
    condition: impl FnOnce(T::Value) -> Value<'t, C, (), Bool>,
    round: impl FnOnce(T::Value) -> R,
) -> T::Value {
    let mut ids = Vec::new();
    let tracer = initial.ids(&mut ids);
    let parameters = tracer.open_body(ids.len());
    let carried = T::from_ids(tracer, &mut parameters.into_iter());
    let condition = condition(carried).id;
    let mut yields = Vec::new();
    round(carried).ids(&mut yields);
    T::from_ids(tracer, &mut tracer.close_body(&ids, None, Some(condition), &yields).into_iter())
}

/// As [`while_loop`].
#[deprecated(since = "0.2.0", note = "renamed to `while_loop`")]
#[track_caller]
pub fn repeat_while<'t, C: Signature, T: Carried<'t>, R: Carried<'t, Value = T::Value>>(
    initial: T,
    condition: impl FnOnce(T::Value) -> Value<'t, C, (), Bool>,
    round: impl FnOnce(T::Value) -> R,
) -> T::Value {
    while_loop(initial, condition, round)
}

/// What a round of [`fold`] returns: what is carried on, and perhaps whether the loop ends here.
pub trait Round<'t, C: Signature, V> {
    #[doc(hidden)]
    #[track_caller]
    fn finish(self, yields: &mut Vec<NodeId>) -> Option<NodeId>;
}

impl<'t, C: Signature, V, R: Carried<'t, Value = V>> Round<'t, C, V> for R {
    fn finish(self, yields: &mut Vec<NodeId>) -> Option<NodeId> {
        self.ids(yields);
        None
    }
}

/// What is carried on, and whether the loop continues after this round: what a `break` is in Rust.
#[derive(Clone, Copy, Debug)]
pub struct ContinueIf<'t, C, R>(pub Value<'t, C, (), Bool>, pub R);

impl<'t, C: Signature, V, R: Carried<'t, Value = V>> Round<'t, C, V> for ContinueIf<'t, C, R> {
    fn finish(self, yields: &mut Vec<NodeId>) -> Option<NodeId> {
        self.1.ids(yields);
        Some(self.0.id)
    }
}

/// As [`ContinueIf`].
#[deprecated(since = "0.2.0", note = "renamed to `ContinueIf`")]
pub type GoOnIf<'t, C, R> = ContinueIf<'t, C, R>;

/// As [`ContinueIf`].
#[allow(non_snake_case)]
#[deprecated(since = "0.2.0", note = "renamed to `ContinueIf`")]
pub fn GoOnIf<'t, C, R>(condition: Value<'t, C, (), Bool>, carried: R) -> ContinueIf<'t, C, R> {
    ContinueIf(condition, carried)
}

/// Goes over the rows of a value along an axis, carrying something on: `fold(h, Seq, h.at(Seq, 0), |sum, row| sum + row)`.
///
/// A round that returns [`ContinueIf`]`(condition, carried)` is the last where its condition is false. Otherwise as [`while_loop`].
///
/// # Errors
/// As [`while_loop`].
#[track_caller]
pub fn fold<'t, C: Signature, S: Shape + HasAxis<A, I>, K: Kind, A, I, T: Carried<'t>, R: Round<'t, C, T::Value>>(
    rows: impl Traced<'t, C, S, K>,
    _axis: A,
    initial: T,
    round: impl FnOnce(T::Value, Value<'t, C, S::Removed, K>) -> R,
) -> T::Value {
    let rows = rows.value();
    let mut ids = Vec::new();
    let tracer = initial.ids(&mut ids);
    let mut parameters = tracer.open_body(ids.len() + 1).into_iter();
    let carried = T::from_ids(tracer, &mut parameters);
    let row = Value::new(tracer, parameters.next().expect("the row is a parameter"));
    let mut yields = Vec::new();
    let condition = round(carried, row).finish(&mut yields);
    T::from_ids(tracer, &mut tracer.close_body(&ids, Some((rows.id, S::POSITION)), condition, &yields).into_iter())
}
