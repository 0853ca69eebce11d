//! Parts of a site that a list of indices or a mask describes.

use super::operand::{Assigned, Operand};
use super::traced::Traced;
use super::value::Value;
use super::{Results, Save, Site, Tracer};
use crate::Result;
use crate::graph::{Binary, Constant, NodeId, Op, Unused};
use crate::types::{Bool, BroadcastFrom, DimName, ExpandedFrom, Int, Kind, Number, Part, ReplaceAxis, SameKind, SameModel, Shape, Signature, Tensor};

/// What names several entries of an axis: an array, slice or `Vec` of whole numbers, of which negative ones count from the end, or a traced
/// list of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name entries of an axis",
    note = "what does is `[0, 4, -1]`, a `Vec`, or a traced value with one axis of kind `Int`"
)]
pub trait Indices<'t, C> {
    #[doc(hidden)]
    #[track_caller]
    fn indices(self, tracer: &'t Tracer) -> NodeId;
}

#[track_caller]
fn constant<I: super::Index>(indices: impl IntoIterator<Item = I>, tracer: &Tracer) -> NodeId {
    let indices = indices.into_iter().map(super::Index::index).collect::<Vec<_>>();
    let count = indices.len();
    let tensor = candle_core::Tensor::from_vec(indices, count, &candle_core::Device::Cpu).expect("a list has one axis");
    tracer.constant(Constant { names: vec!["Stacked".to_string()], tensor })
}

impl<'t, C, I: super::Index, const N: usize> Indices<'t, C> for [I; N] {
    fn indices(self, tracer: &'t Tracer) -> NodeId {
        constant(self, tracer)
    }
}
impl<'t, C, I: super::Index> Indices<'t, C> for Vec<I> {
    fn indices(self, tracer: &'t Tracer) -> NodeId {
        constant(self, tracer)
    }
}
impl<'t, C, I: super::Index + Copy> Indices<'t, C> for &[I] {
    fn indices(self, tracer: &'t Tracer) -> NodeId {
        constant(self.iter().copied(), tracer)
    }
}
impl<'t, C: Signature, N: DimName> Indices<'t, C> for Value<'t, C, (N,), Int> {
    fn indices(self, _tracer: &'t Tracer) -> NodeId {
        self.id
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Site<'t, C, S, K> {
    /// Several entries of an axis: `site.select(Seq, [0, 4, -1]) = value`. Read, it is what they hold side by side.
    #[track_caller]
    pub fn select<A: DimName, I>(self, _axis: A, entries: impl Indices<'t, C>) -> Selected<'t, C, S, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, Part<A>>,
    {
        Selected { site: self, axis: S::POSITION, indices: entries.indices(self.tracer), marker: std::marker::PhantomData }
    }

    /// Those entries where the mask is true: `site.masked(h.gt(0.0)) = 0.0`.
    #[track_caller]
    pub fn masked<R: Shape>(self, mask: impl Traced<'t, C, R, Bool>) -> Masked<'t, C, S, K>
    where
        S: BroadcastFrom<R>,
    {
        Masked { site: self, mask: mask.value().id }
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Value<'t, C, S, K> {
    /// Several entries of an axis side by side: `h.select(Seq, [0, 4, -1])`.
    #[must_use = "this computes a new value and changes nothing"]
    #[track_caller]
    pub fn select<A: DimName, I>(self, _axis: A, entries: impl Indices<'t, C>) -> Value<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, Part<A>>,
    {
        let indices = entries.indices(self.tracer);
        self.then_with(Op::IndexSelect { axis: S::POSITION }, indices)
    }
}

/// Some entries of an axis of a site, as [`Site::select`] gives them.
#[must_use = "naming a part of a site does nothing: assign to it, or use what it holds"]
pub struct Selected<'t, C, W, S, K> {
    site: Site<'t, C, W, K>,
    axis: usize,
    indices: NodeId,
    marker: std::marker::PhantomData<fn() -> S>,
}

impl<C, W, S, K> Clone for Selected<'_, C, W, S, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, W, S, K> Copy for Selected<'_, C, W, S, K> {}

impl<'t, C: Signature, W: Shape, S: Shape, K: Kind> Traced<'t, C, S, K> for Selected<'t, C, W, S, K> {
    fn tracer(self) -> &'t Tracer {
        self.site.tracer
    }
    fn value(self) -> Value<'t, C, S, K> {
        self.site.value().then_with(Op::IndexSelect { axis: self.axis }, self.indices)
    }
}

impl<'t, C: Signature, W: Shape, S: Shape, K: Kind> Save<'t> for Selected<'t, C, W, S, K> {
    type Saved = Tensor<C, S, K>;
    type Form = ();
    fn register(self, saves: &mut Vec<NodeId>) {
        saves.push(self.value().id);
    }
    fn collect((): (), results: &mut Results) -> Result<Self::Saved> {
        results.next().map(Tensor::of)
    }
}

impl<'t, C, D: Signature, W: Shape, S: Shape, R: Shape, K: Number, L: Kind> Operand<'t, C, S, K> for Selected<'t, D, W, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: BroadcastFrom<R>,
{
    fn operand(self, tracer: &'t Tracer) -> NodeId {
        self.value().operand_of(tracer)
    }
}

impl<'t, C, D: Signature, W: Shape, S: Shape, R: Shape, K: Number, L: Kind> Assigned<'t, C, S, K> for Selected<'t, D, W, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: ExpandedFrom<R>,
{
    fn assigned(self, tracer: &'t Tracer) -> NodeId {
        self.value().operand_of(tracer)
    }
}

impl<'t, C: Signature, W: Shape, S: Shape, K: Kind> Selected<'t, C, W, S, K> {
    #[track_caller]
    fn store(self, value: NodeId) {
        let tracer = self.site.tracer;
        let whole = self.site.current().value();
        let edited = tracer.push(Op::Scatter { axis: self.axis }, &[whole.id, self.indices, value]);
        super::Place::store(self.site, edited, Unused::Refuse);
    }

    #[doc(hidden)]
    #[track_caller]
    pub fn __assign<V: Assigned<'t, C, S, K>>(self, value: V) {
        self.store(value.assigned(self.site.tracer));
    }

    #[track_caller]
    fn update<V: Operand<'t, C, S, K>>(self, binary: Binary, value: V) {
        let before: Value<'t, C, S, K> = Selected { site: self.site.current(), ..self }.value();
        let value = value.operand(before.tracer);
        self.store(before.tracer.push(Op::Binary(binary), &[before.id, value]));
    }
}

/// The entries of a site where a mask is true, as [`Site::masked`] gives them. It can be assigned to.
#[must_use = "naming a part of a site does nothing: assign to it"]
pub struct Masked<'t, C, S, K> {
    site: Site<'t, C, S, K>,
    mask: NodeId,
}

impl<C, S, K> Clone for Masked<'_, C, S, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, S, K> Copy for Masked<'_, C, S, K> {}

impl<'t, C: Signature, S: Shape, K: Kind> Masked<'t, C, S, K> {
    #[doc(hidden)]
    #[track_caller]
    pub fn __assign<V: Assigned<'t, C, S, K>>(self, value: V) {
        let (tracer, whole) = (self.site.tracer, self.site.current().value());
        let value = value.assigned(tracer);
        let edited = tracer.push(Op::Where, &[self.mask, value, whole.id]);
        super::Place::store(self.site, edited, Unused::Refuse);
    }

    #[track_caller]
    fn update<V: Operand<'t, C, S, K>>(self, binary: Binary, value: V) {
        let whole = self.site.current().value();
        let value = value.operand(whole.tracer);
        let updated = whole.tracer.push(Op::Binary(binary), &[whole.id, value]);
        let edited = whole.tracer.push(Op::Where, &[self.mask, updated, whole.id]);
        super::Place::store(self.site, edited, Unused::Refuse);
    }
}

macro_rules! updates {
    ($([$($generics:tt)*] $place:ty: $($hidden:ident $binary:ident),+;)+) => {$(
        impl<'t, C: Signature, $($generics)* S: Shape, K: Kind> $place {$(
            #[doc(hidden)]
            #[track_caller]
            pub fn $hidden<V: Operand<'t, C, S, K>>(self, value: V) {
                self.update(Binary::$binary, value);
            }
        )+}
    )+};
}
updates! {
    [W: Shape,] Selected<'t, C, W, S, K>: __add_assign Add, __sub_assign Sub, __mul_assign Mul, __div_assign Div;
    [] Masked<'t, C, S, K>: __add_assign Add, __sub_assign Sub, __mul_assign Mul, __div_assign Div;
}
