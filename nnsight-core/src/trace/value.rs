//! Values of a trace.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use super::index::Index;
use super::operand::Assigned;
use super::{Traced, Tracer};
use crate::graph::{NodeId, Op, Region, Step};
use crate::types::{Append, DimName, Float, HasAxis, Int, Kind, Part, Prepend, ReplaceAxis, Shape, Signature, Stacked};

/// A value inside of a trace: it will exist when the trace runs, and never changes.
///
/// `C` is the model it belongs to, `S` its shape, `K` its kind. It borrows the trace and cannot leave it; what the block ends with is
/// given back as a [`Tensor`](crate::types::Tensor).
pub struct Value<'t, C, S, K = Float> {
    pub(crate) tracer: &'t Tracer,
    pub(crate) id: NodeId,
    marker: PhantomData<fn() -> (C, S, K)>,
}

impl<C, S, K> Clone for Value<'_, C, S, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, S, K> Copy for Value<'_, C, S, K> {}

impl<C, S: Shape, K> std::fmt::Debug for Value<'_, C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, S::NAMES.join(", "))
    }
}

impl<'t, C, S, K> Value<'t, C, S, K> {
    pub(crate) fn new(tracer: &'t Tracer, id: NodeId) -> Self {
        Value { tracer, id, marker: PhantomData }
    }

    #[track_caller]
    pub(super) fn then<T, L>(self, op: Op) -> Value<'t, C, T, L> {
        Value::new(self.tracer, self.tracer.push(op, &[self.id]))
    }

    #[track_caller]
    pub(super) fn then_with<T, L>(self, op: Op, other: NodeId) -> Value<'t, C, T, L> {
        Value::new(self.tracer, self.tracer.push(op, &[self.id, other]))
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Value<'t, C, S, K> {
    /// One entry of an axis, which is then gone; negative indices count from the end.
    #[must_use = "this computes a new value and changes nothing"]
    #[track_caller]
    pub fn at<A, I>(self, _axis: A, index: impl Index) -> Value<'t, C, S::Removed, K>
    where
        S: HasAxis<A, I>,
    {
        self.__entry(S::POSITION, index)
    }

    /// As [`Value::at`], by the number of the axis.
    #[doc(hidden)]
    #[track_caller]
    pub fn __entry<R: Shape>(self, axis: usize, index: impl Index) -> Value<'t, C, R, K> {
        Value::new(self.tracer, self.tracer.part(self.id, entry(axis, index)))
    }

    /// A range of an axis: `2..5`, `..-1`, `3..`.
    #[must_use = "this computes a new value and changes nothing"]
    #[track_caller]
    pub fn slice<A: DimName, I>(self, _axis: A, range: impl RangeBounds<i64>) -> Value<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, Part<A>>,
    {
        Value::new(self.tracer, self.tracer.part(self.id, range_of(S::POSITION, range)))
    }

    /// The same value with one entry of an axis replaced. The value itself stays as it is.
    #[must_use = "this computes a new value and changes nothing"]
    #[track_caller]
    pub fn with_at<A, I, V>(self, _axis: A, index: impl Index, value: V) -> Self
    where
        S: HasAxis<A, I>,
        V: Assigned<'t, C, S::Removed, K>,
    {
        let value = value.assigned(self.tracer);
        self.then_with(Op::Patch(entry(S::POSITION, index)), value)
    }

    /// The same value with a range of an axis replaced. The value itself stays as it is.
    #[must_use = "this computes a new value and changes nothing"]
    #[track_caller]
    pub fn with_slice<A: DimName, I, V>(self, _axis: A, range: impl RangeBounds<i64>, value: V) -> Self
    where
        S: ReplaceAxis<A, I, Part<A>>,
        V: Assigned<'t, C, S::Replaced, K>,
    {
        let value = value.assigned(self.tracer);
        self.then_with(Op::Patch(range_of(S::POSITION, range)), value)
    }

    /// A value never changes; this exists to say so at compile time.
    #[doc(hidden)]
    pub fn __assign<V>(self, _value: V)
    where
        Self: Assignable,
    {
    }
}

/// Says that something can be assigned to.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a value that was read never changes, so that assigning to it would have no effect",
    label = "this is a value, not a place of the model",
    note = "assign to the site itself (`model.layers[3].output.at(Seq, -1) = …`), or make another value with `.with_at(axis, index, …)`"
)]
pub trait Assignable {}

pub(super) fn entry(axis: usize, index: impl Index) -> Region {
    Region(vec![Step { axis: axis as u8, start: index.index(), end: None, single: true }])
}

fn range_of(axis: usize, range: impl RangeBounds<i64>) -> Region {
    let (start, end) = bounds(range);
    Region(vec![Step { axis: axis as u8, start, end, single: false }])
}

/// The ends of a range, the second exclusive.
pub(super) fn bounds(range: impl RangeBounds<i64>) -> (i64, Option<i64>) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        // `..=-1` ends with the last entry: one past it is the end, not entry 0.
        Bound::Included(&-1) | Bound::Unbounded => None,
        Bound::Included(&end) => Some(end.saturating_add(1)),
        Bound::Excluded(&end) => Some(end),
    };
    (start, end)
}

impl<'t, C: Signature, S: Shape> Value<'t, C, S, Int> {
    /// A new innermost axis with 1 at the entry that the value names, and 0 elsewhere: `tokens.one_hot(Vocab, 49152)`.
    #[must_use = "this computes a new value and changes nothing"]
    #[track_caller]
    pub fn one_hot<N: DimName>(self, _axis: N, size: usize) -> Value<'t, C, S::Appended, Float>
    where
        S: Append<N>,
    {
        self.then(Op::OneHot { name: N::NAME.to_string(), size })
    }
}

/// The nodes of some values.
#[track_caller]
fn ids<'t, C: Signature, S: Shape, K: Kind, V: Traced<'t, C, S, K>>(values: &[V]) -> Vec<NodeId> {
    let mut ids = Vec::with_capacity(values.len());
    // A closure would have the line of this file and not the caller's.
    for value in values {
        ids.push(value.value().id);
    }
    ids
}

/// Values one after the other along an axis.
///
/// # Panics
/// Where there is none.
#[must_use = "this computes a new value and changes nothing"]
#[track_caller]
pub fn cat<'t, C: Signature, S, K: Kind, A: DimName, I, V>(values: &[V], _axis: A) -> Value<'t, C, <S as ReplaceAxis<A, I, Part<A>>>::Replaced, K>
where
    S: ReplaceAxis<A, I, Part<A>>,
    V: Traced<'t, C, S, K>,
{
    let ids = ids(values);
    let tracer = values.first().expect("`cat` needs at least one value").tracer();
    Value::new(tracer, tracer.push(Op::Cat { axis: S::POSITION }, &ids))
}

/// Values of one shape side by side, along a new outermost axis [`Stacked`].
///
/// # Panics
/// Where there is none.
#[must_use = "this computes a new value and changes nothing"]
#[track_caller]
pub fn stack<'t, C: Signature, S, K: Kind, V>(values: &[V]) -> Value<'t, C, S::Prepended, K>
where
    S: Prepend<Stacked>,
    V: Traced<'t, C, S, K>,
{
    let ids = ids(values);
    let tracer = values.first().expect("`stack` needs at least one value").tracer();
    Value::new(tracer, tracer.push(Op::Stack { name: Stacked::NAME.to_string() }, &ids))
}
