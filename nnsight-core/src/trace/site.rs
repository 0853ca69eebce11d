//! Sites and parts of them: what can be read and assigned.

use std::marker::PhantomData;
use std::ops::{AddAssign, DivAssign, MulAssign, RangeBounds, SubAssign};

use super::Tracer;
use super::binding::{Borrowed, Probe};
use super::gradient::Gradient;
use super::index::Index;
use super::operand::{Assigned, Operand};
use super::traced::{Origin, Traced};
use super::tracer::Stamp;
use super::value::{Value, bounds};
use crate::graph::{At, Binary, NodeId, Op, Region, Step, Unused};
use crate::types::{DimName, EndsWith, Float, HasAxis, Kind, Part, ReplaceAxis, Shape, Signature};

/// A place of the model where a value can be read, and replaced by assigning to it.
///
/// Reading gives what the model holds there at this line of the program: what an earlier line assigned, or else what the model computed.
///
/// In a block, binding a site reads it: `let h = model.layers[3].output;` is a [`Value`]. What stays a place is what is written as one, left of
/// an assignment or before a method, and what is borrowed: `&mut model.layers[3].output`.
#[must_use = "naming a site does nothing: assign to it, or use what it holds"]
pub struct Site<'t, C, S, K = Float> {
    pub(crate) tracer: &'t Tracer,
    pub(crate) at: Option<At>,
    /// When the handle was made, for one that was not written as a place.
    stamp: Stamp,
    pub(crate) index: usize,
    marker: PhantomData<fn() -> (C, S, K)>,
    plain: NotPlain,
}

/// Has the macros know a place by its type: nothing that holds one is left whole by unwinding.
pub(super) type NotPlain = PhantomData<&'static mut ()>;

impl<C, S, K> Clone for Site<'_, C, S, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, S, K> Copy for Site<'_, C, S, K> {}

impl<C, S, K> std::fmt::Debug for Site<'_, C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

impl<'t, C, S, K> Site<'t, C, S, K> {
    pub(crate) fn new(tracer: &'t Tracer, at: Option<At>, index: usize) -> Self {
        Site { tracer, at, stamp: Stamp::NONE, index, marker: PhantomData, plain: PhantomData }
    }

    /// A handle that says so if it is read after a later edit of the site.
    #[track_caller]
    pub(crate) fn stamped(self) -> Self {
        Site { stamp: self.tracer.stamp(), ..self }
    }

    /// The place itself, whenever the handle was made.
    pub(super) fn current(self) -> Self {
        Site { stamp: Stamp::NONE, ..self }
    }

    /// The node that reads it.
    #[track_caller]
    fn read(self) -> NodeId {
        self.tracer.check_stamp(self.stamp, self.at, self.index);
        self.tracer.get(self.at, self.index)
    }

    /// Ends the run of the prompts once they have reached this site. [`stop!`](crate::stop) calls it.
    #[doc(hidden)]
    #[track_caller]
    pub fn __stop(self) {
        self.tracer.stop(self.at, self.index);
    }

    /// As the checkpoint names it: `layers.5.mlp.output`.
    pub fn path(&self) -> String {
        self.tracer.table().sites().get(self.index).map(|site| site.path.clone()).unwrap_or_default()
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Site<'t, C, S, K> {
    /// One entry of an axis, which is then gone; negative indices count from the end. For `Seq`, index 0 is the prompt's first token
    /// and -1 its last, whatever else is in the batch.
    #[track_caller]
    pub fn at<A, I>(self, axis: A, index: impl Index) -> SitePart<'t, C, S::Removed, K>
    where
        S: HasAxis<A, I>,
    {
        self.whole().at(axis, index)
    }

    /// As [`Site::at`], by the number of the axis.
    #[doc(hidden)]
    #[track_caller]
    pub fn __entry<R: Shape>(self, axis: usize, index: impl Index) -> SitePart<'t, C, R, K> {
        self.whole().__entry(axis, index)
    }

    /// A range of an axis: `2..5`, `..-1`, `3..`.
    #[track_caller]
    pub fn slice<A: DimName, I>(self, axis: A, range: impl RangeBounds<i64>) -> SitePart<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, Part<A>>,
    {
        self.whole().slice(axis, range)
    }

    fn whole(self) -> SitePart<'t, C, S, K> {
        let mut axes = [0; 5];
        (0..S::RANK).for_each(|axis| axes[axis] = axis as u8);
        let nothing = Step { axis: 0, start: 0, end: None, single: false };
        SitePart {
            site: Site { stamp: self.stamp, ..Site::new(self.tracer, self.at, self.index) },
            steps: [nothing; 5],
            len: 0,
            axes,
            marker: PhantomData,
        }
    }

    /// Applies the module that this is the input of. The method that `derive(Module)` writes beside a module calls it.
    #[doc(hidden)]
    #[track_caller]
    pub fn __apply<V, R, A, B>(self, value: V) -> Value<'t, C, R::Ended, Float>
    where
        V: Traced<'t, C, R, Float>,
        R: EndsWith<A, B>,
    {
        let module = match self.index < self.tracer.table().sites().len() {
            true => self.tracer.table().module_of(self.index).path.clone(),
            false => String::new(),
        };
        let value = value.value();
        Value::new(self.tracer, self.tracer.push(Op::Call { module }, &[value.id]))
    }
}

/// A part of a [`Site`], as `at` and `slice` return it; it can be read, and assigned to.
#[must_use = "naming a part of a site does nothing: assign to it, or use what it holds"]
pub struct SitePart<'t, C, S, K = Float> {
    site: Site<'t, C, (), ()>,
    steps: [Step; 5],
    len: u8,
    /// Which axis of the site each axis of the part is.
    axes: [u8; 5],
    marker: PhantomData<fn() -> (S, K)>,
}

impl<C, S, K> Clone for SitePart<'_, C, S, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, S, K> Copy for SitePart<'_, C, S, K> {}

impl<C, S, K> std::fmt::Debug for SitePart<'_, C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{}", self.site, self.region())
    }
}

impl<C, S, K> SitePart<'_, C, S, K> {
    fn region(&self) -> Region {
        Region(self.steps[..self.len as usize].to_vec())
    }

    /// The reading of the whole site, and the part of it that this is.
    #[track_caller]
    pub(super) fn origin(&self) -> Origin {
        Origin { node: self.site.read(), steps: self.steps, len: self.len }
    }

    #[track_caller]
    pub(super) fn stamped(self) -> Self {
        SitePart { site: self.site.stamped(), ..self }
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> SitePart<'t, C, S, K> {
    /// One entry of an axis, which is then gone; as [`Site::at`].
    #[track_caller]
    pub fn at<A, I>(self, _axis: A, index: impl Index) -> SitePart<'t, C, S::Removed, K>
    where
        S: HasAxis<A, I>,
    {
        self.__entry(S::POSITION, index)
    }

    /// As [`Site::at`], by the number of the axis.
    #[doc(hidden)]
    #[track_caller]
    pub fn __entry<R: Shape>(self, axis: usize, index: impl Index) -> SitePart<'t, C, R, K> {
        let mut part = self.step(axis, index.index(), None, true);
        part.axes.copy_within(axis + 1.., axis);
        part
    }

    /// A range of an axis; as [`Site::slice`].
    #[track_caller]
    pub fn slice<A: DimName, I>(self, _axis: A, range: impl RangeBounds<i64>) -> SitePart<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, Part<A>>,
    {
        let (start, end) = bounds(range);
        self.step(S::POSITION, start, end, false)
    }

    #[track_caller]
    fn step<T>(self, axis: usize, start: i64, end: Option<i64>, single: bool) -> SitePart<'t, C, T, K> {
        let mut steps = self.steps;
        let mut len = self.len;
        // More than five steps can only be repeated slices of one axis.
        if let Some(slot) = steps.get_mut(len as usize) {
            *slot = Step { axis: self.axes[axis], start, end, single };
            len += 1;
        } else {
            self.site.tracer.fail(|source_line| crate::Error::Mismatch {
                op: "slice".into(),
                problem: "a part of a site is described by at most five steps".into(),
                source_line,
            });
        }
        SitePart { site: self.site, steps, len, axes: self.axes, marker: PhantomData }
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Traced<'t, C, S, K> for Site<'t, C, S, K> {
    fn tracer(self) -> &'t Tracer {
        self.tracer
    }
    fn value(self) -> Value<'t, C, S, K> {
        Value::new(self.tracer, self.read())
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Traced<'t, C, S, K> for SitePart<'t, C, S, K> {
    fn tracer(self) -> &'t Tracer {
        self.site.tracer
    }
    fn value(self) -> Value<'t, C, S, K> {
        let whole = self.site.read();
        Value::new(self.site.tracer, self.site.tracer.part(whole, self.region()))
    }
}

/// What can be assigned to: a [`Site`], a [`SitePart`] or a [`Gradient`].
pub trait Place<'t, C: Signature, S: Shape, K: Kind>: Traced<'t, C, S, K> {
    /// Has the model go on with `value` here.
    #[doc(hidden)]
    #[track_caller]
    fn store(self, value: NodeId, unused: Unused);
    /// The place itself, whenever the handle was made.
    #[doc(hidden)]
    fn current(self) -> Self {
        self
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Place<'t, C, S, K> for Site<'t, C, S, K> {
    fn store(self, value: NodeId, unused: Unused) {
        self.tracer.set(self.at, self.index, Region::default(), value, unused);
    }
    fn current(self) -> Self {
        Site::current(self)
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Place<'t, C, S, K> for SitePart<'t, C, S, K> {
    fn store(self, value: NodeId, unused: Unused) {
        self.site.tracer.set(self.site.at, self.site.index, self.region(), value, unused);
    }
    fn current(self) -> Self {
        SitePart { site: self.site.current(), ..self }
    }
}

#[track_caller]
fn assign<'t, C: Signature, S: Shape, K: Kind>(place: impl Place<'t, C, S, K>, value: impl Assigned<'t, C, S, K>, unused: Unused) {
    place.store(value.assigned(place.tracer()), unused);
}

#[track_caller]
fn update<'t, C: Signature, S: Shape, K: Kind>(place: impl Place<'t, C, S, K>, binary: Binary, value: impl Operand<'t, C, S, K>, unused: Unused) {
    let before = place.current().value();
    let value = value.operand(before.tracer);
    place.store(before.tracer.push(Op::Binary(binary), &[before.id, value]), unused);
}

/// Keeps an edit although nothing that is saved depends on it: `effect(site) = value`.
pub fn effect<P>(place: P) -> Effect<P> {
    Effect(place)
}

/// What [`effect`] gives.
#[derive(Clone, Copy, Debug)]
#[must_use = "`effect` marks what is assigned: `effect(site) = value`"]
pub struct Effect<P>(P);

impl<P> Effect<P> {
    #[doc(hidden)]
    #[track_caller]
    pub fn __assign<'t, C: Signature, S: Shape, K: Kind, V: Assigned<'t, C, S, K>>(self, value: V)
    where
        P: Place<'t, C, S, K>,
    {
        assign(self.0, value, Unused::Keep);
    }
}

macro_rules! assignable {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature, S: Shape, K: Kind> $place<'t, C, S, K> {
            #[doc(hidden)]
            #[track_caller]
            pub fn __assign<V: Assigned<'t, C, S, K>>(self, value: V) {
                assign(self, value, Unused::Refuse);
            }
            #[doc(hidden)]
            #[track_caller]
            pub fn __put<V: Assigned<'t, C, S, K>>(self, value: V) {
                self.__assign(value);
            }
            #[doc(hidden)]
            pub fn __place<X>(self, _exactly: Probe<X>) -> Borrowed<Self> {
                Borrowed(self)
            }
        }
        assignable!(@update $place, AddAssign add_assign __add_assign __put_add Add);
        assignable!(@update $place, SubAssign sub_assign __sub_assign __put_sub Sub);
        assignable!(@update $place, MulAssign mul_assign __mul_assign __put_mul Mul);
        assignable!(@update $place, DivAssign div_assign __div_assign __put_div Div);
    )+};
    (@update $place:ident, $trait:ident $method:ident $hidden:ident $put:ident $binary:ident) => {
        impl<'t, C: Signature, S: Shape, K: Kind, V: Operand<'t, C, S, K>> $trait<V> for $place<'t, C, S, K> {
            #[track_caller]
            fn $method(&mut self, value: V) {
                update(*self, Binary::$binary, value, Unused::Refuse);
            }
        }
        impl<'t, C: Signature, S: Shape, K: Kind> $place<'t, C, S, K> {
            #[doc(hidden)]
            #[track_caller]
            pub fn $hidden<V: Operand<'t, C, S, K>>(self, value: V) {
                update(self, Binary::$binary, value, Unused::Refuse);
            }
            #[doc(hidden)]
            #[track_caller]
            pub fn $put<V: Operand<'t, C, S, K>>(self, value: V) {
                self.$hidden(value);
            }
        }
    };
}
assignable!(Site, SitePart, Gradient);

macro_rules! update_with_effect {
    ($($hidden:ident $binary:ident),+) => {
        impl<P> Effect<P> {$(
            #[doc(hidden)]
            #[track_caller]
            pub fn $hidden<'t, C: Signature, S: Shape, K: Kind, V: Operand<'t, C, S, K>>(self, value: V)
            where
                P: Place<'t, C, S, K>,
            {
                update(self.0, Binary::$binary, value, Unused::Keep);
            }
        )+}
    };
}
update_with_effect!(__add_assign Add, __sub_assign Sub, __mul_assign Mul, __div_assign Div);
