//! Sites and parts of them: what can be read and assigned.

use std::marker::PhantomData;
use std::ops::{AddAssign, DivAssign, MulAssign, RangeBounds, SubAssign};

use super::Tracer;
use super::gradient::Gradient;
use super::index::Index;
use super::operand::Operand;
use super::traced::{Origin, Traced};
use super::value::{Value, bounds};
use crate::graph::{At, Binary, NodeId, Op, Region, Step, Unused};
use crate::types::{DimName, EndsWith, Float, HasAxis, Heads, Kind, Part, ReplaceAxis, Shape, Signature};

/// A place of the model where a value can be read, and replaced by assigning to it.
///
/// Reading gives what the model holds there at this line of the program: what an earlier line assigned, or else what the model computed.
pub struct Site<'t, C, S, K = Float> {
    pub(crate) tracer: &'t Tracer,
    pub(crate) at: Option<At>,
    pub(crate) index: usize,
    marker: PhantomData<fn() -> (C, S, K)>,
}

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
        Site { tracer, at, index, marker: PhantomData }
    }

    /// Ends the run of the prompts once they have come by here. [`stop!`](crate::stop) calls it.
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

    /// A range of an axis: `2..5`, `..-1`, `3..`.
    #[track_caller]
    pub fn slice<A: DimName, I>(self, axis: A, range: impl RangeBounds<i64>) -> SitePart<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, Part<A>>,
    {
        self.whole().slice(axis, range)
    }

    /// One attention head; the same as `.at(Heads, index)`.
    #[track_caller]
    pub fn head<I>(self, index: impl Index) -> SitePart<'t, C, S::Removed, K>
    where
        S: HasAxis<Heads, I>,
    {
        self.at(Heads, index)
    }

    fn whole(self) -> SitePart<'t, C, S, K> {
        let mut axes = [0; 5];
        (0..S::RANK).for_each(|axis| axes[axis] = axis as u8);
        let nothing = Step { axis: 0, start: 0, end: None, single: false };
        SitePart { site: Site::new(self.tracer, self.at, self.index), steps: [nothing; 5], len: 0, axes, marker: PhantomData }
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

/// A part of a [`Site`], as `at` and `slice` give it; it can be read, and assigned to.
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
        Origin { node: self.site.tracer.get(self.site.at, self.site.index), steps: self.steps, len: self.len }
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> SitePart<'t, C, S, K> {
    /// One entry of an axis, which is then gone; as [`Site::at`].
    #[track_caller]
    pub fn at<A, I>(self, _axis: A, index: impl Index) -> SitePart<'t, C, S::Removed, K>
    where
        S: HasAxis<A, I>,
    {
        let mut part = self.step(S::POSITION, index.index(), None, true);
        part.axes.copy_within(S::POSITION + 1.., S::POSITION);
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
        Value::new(self.tracer, self.tracer.get(self.at, self.index))
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Traced<'t, C, S, K> for SitePart<'t, C, S, K> {
    fn tracer(self) -> &'t Tracer {
        self.site.tracer
    }
    fn value(self) -> Value<'t, C, S, K> {
        let whole = self.site.tracer.get(self.site.at, self.site.index);
        Value::new(self.site.tracer, self.site.tracer.push(Op::Slice(self.region()), &[whole]))
    }
}

/// What can be assigned to: a [`Site`], a [`SitePart`] or a [`Gradient`].
pub trait Place<'t, C: Signature, S: Shape, K: Kind>: Traced<'t, C, S, K> {
    /// Has the model go on with `value` here.
    #[doc(hidden)]
    #[track_caller]
    fn store(self, value: NodeId, unused: Unused);
}

impl<'t, C: Signature, S: Shape, K: Kind> Place<'t, C, S, K> for Site<'t, C, S, K> {
    fn store(self, value: NodeId, unused: Unused) {
        self.tracer.set(self.at, self.index, Region::default(), value, unused);
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Place<'t, C, S, K> for SitePart<'t, C, S, K> {
    fn store(self, value: NodeId, unused: Unused) {
        self.site.tracer.set(self.site.at, self.site.index, self.region(), value, unused);
    }
}

#[track_caller]
fn assign<'t, C: Signature, S: Shape, K: Kind>(place: impl Place<'t, C, S, K>, value: impl Operand<'t, C, S, K>, unused: Unused) {
    place.store(value.operand(place.tracer()), unused);
}

#[track_caller]
fn update<'t, C: Signature, S: Shape, K: Kind>(place: impl Place<'t, C, S, K>, binary: Binary, value: impl Operand<'t, C, S, K>, unused: Unused) {
    let before = place.value();
    let value = value.operand(before.tracer);
    place.store(before.tracer.push(Op::Binary(binary), &[before.id, value]), unused);
}

/// Keeps an edit although nothing that is saved depends on it: `effect(site) = value`.
pub fn effect<P>(place: P) -> Effect<P> {
    Effect(place)
}

/// What [`effect`] gives.
#[derive(Clone, Copy, Debug)]
pub struct Effect<P>(P);

impl<P> Effect<P> {
    #[doc(hidden)]
    #[track_caller]
    pub fn __assign<'t, C: Signature, S: Shape, K: Kind, V: Operand<'t, C, S, K>>(self, value: V)
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
            pub fn __assign<V: Operand<'t, C, S, K>>(self, value: V) {
                assign(self, value, Unused::Refuse);
            }
        }
        assignable!(@update $place, AddAssign add_assign __add_assign Add);
        assignable!(@update $place, SubAssign sub_assign __sub_assign Sub);
        assignable!(@update $place, MulAssign mul_assign __mul_assign Mul);
        assignable!(@update $place, DivAssign div_assign __div_assign Div);
    )+};
    (@update $place:ident, $trait:ident $method:ident $hidden:ident $binary:ident) => {
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
