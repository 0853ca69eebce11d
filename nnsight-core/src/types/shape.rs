//! Shapes: tuples of dimensions, and what can be asked of them.
//!
//! The position of an axis is a type parameter `I` ([`P0`] … [`P4`]) that the trait solver finds, so that asking for an axis which
//! a shape lacks does not compile.

use super::dim::{Dim, DimName, Fits, Hole, IsBatch, IsNotBatch, One};
use crate::graph::Axis;

/// A tuple of up to five dimensions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shape",
    note = "a shape is a tuple of up to five dimensions: `(Batch, Seq, Hidden)`; one dimension is written `(Hidden,)`"
)]
pub trait Shape: Default + Copy + 'static {
    /// The number of axes.
    const RANK: usize;
    /// The names of the axes, outermost first.
    const NAMES: &'static [&'static str];
    /// The axes, with the sizes that are the same for every model.
    fn fixed_axes() -> Vec<Axis>;
}

/// A shape whose sizes are known as far as the signature `C` knows them.
pub trait ShapeOf<C>: Shape {
    /// Names and sizes, outermost first.
    fn axes() -> Vec<Axis>;
}

macro_rules! position {
    ($($name:ident = $index:literal),+) => {$(
        #[doc = concat!("Axis number ", $index, ", counted from the outermost.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;
    )+};
}
position!(P0 = 0, P1 = 1, P2 = 2, P3 = 3, P4 = 4);

/// Says that a shape has an axis `A`, at the position `I`.
#[diagnostic::on_unimplemented(
    message = "shape `{Self}` has no axis `{A}`",
    label = "no axis `{A}` here",
    note = "the axes of a value are those of its shape, without the ones that `at` or a reduction has removed"
)]
pub trait HasAxis<A, I>: Shape {
    /// The position as a number.
    const POSITION: usize;
    /// The shape without the axis.
    type Removed: Shape;
}

/// Says that a shape has an axis `A`, and gives the shape with `N` in its place.
#[diagnostic::on_unimplemented(message = "shape `{Self}` has no axis `{A}`", label = "no axis `{A}` here")]
pub trait ReplaceAxis<A, I, N>: HasAxis<A, I> {
    /// The shape with `N` in place of `A`.
    type Replaced: Shape;
}

/// Gives a shape one more axis on the outside.
#[diagnostic::on_unimplemented(message = "shape `{Self}` has five axes already and takes no other")]
pub trait Prepend<N>: Shape {
    /// The shape with `N` before its first axis.
    type Prepended: Shape;
}

/// Gives a shape one more axis on the inside.
#[diagnostic::on_unimplemented(message = "shape `{Self}` has five axes already and takes no other")]
pub trait Append<N>: Shape {
    /// The shape with `N` behind its last axis.
    type Appended: Shape;
}

/// Gives the shape with the axis `A` split into `X` and `Y`.
#[diagnostic::on_unimplemented(message = "shape `{Self}` has no axis `{A}` that could be split", label = "no axis `{A}` here")]
pub trait SplitAxis<A, I, X, Y>: HasAxis<A, I> {
    /// The shape after the split.
    type Split: Shape;
}

/// Gives the shape with the neighbouring axes `X` and `Y` merged into `N`.
#[diagnostic::on_unimplemented(
    message = "shape `{Self}` has no neighbouring axes `{X}` and `{Y}`",
    note = "bring them side by side with `permute` first"
)]
pub trait MergeAxes<X, Y, I, N>: Shape {
    /// The position of `X`.
    const POSITION: usize;
    /// The shape after the merge.
    type Merged: Shape;
}

/// Says that the target is this shape with its axes in another order.
#[diagnostic::on_unimplemented(message = "shape `{Self}` cannot be permuted to `{T}`", note = "the target names each axis once")]
pub trait PermuteTo<T, I>: Shape {
    /// For each axis of the target, where it stands now.
    const ORDER: &'static [usize];
}

/// Says that a value of shape `R` may be combined with, or written into, one of this shape.
#[diagnostic::on_unimplemented(
    message = "shapes `{Self}` and `{R}` do not broadcast",
    label = "this has shape `{R}`",
    note = "a value fits if it has the same shape, a suffix of it, `One` in place of an axis (`.mean_keepdim(Seq)`, `.expand(Seq)`), or is a number"
)]
pub trait BroadcastFrom<R>: Shape {}

/// Says that a value of shape `R` may be assigned to a place of this shape: the same axes, or `One` in place of an axis.
#[diagnostic::on_unimplemented(
    message = "a value of shape `{R}` cannot be assigned to a place of shape `{Self}`",
    label = "this has shape `{R}`",
    note = "an assignment wants the same axes: `.expand(Seq)` makes one that is missing, `.mean_keepdim(Seq)` keeps one that is reduced; `+=` broadcasts"
)]
pub trait ExpandedFrom<R>: Shape {}

/// The shape with an axis of one entry more: the second axis if the first is `Batch`, else the first.
#[diagnostic::on_unimplemented(message = "shape `{Self}` has five axes already and takes no other")]
pub trait Expand: Shape {
    /// The position of the new axis.
    const POSITION: usize;
    /// The shape with it.
    type Expanded: Shape;
}

/// As [`Expand`], for a shape whose first axis is known to be `Batch` or not.
#[doc(hidden)]
pub trait ExpandBehind<First>: Shape {
    const POSITION: usize;
    type Expanded: Shape;
}

/// Gives the shape of a matrix product.
#[diagnostic::on_unimplemented(
    message = "a value of shape `{Self}` cannot be multiplied by one of shape `{R}`",
    label = "this has shape `{R}`",
    note = "the product of `(.., N, K)` and `(.., K, M)` is `(.., N, M)`; swap two axes with `.transpose(A, B)`"
)]
pub trait MatMul<R>: Shape {
    /// The shape of the product.
    type Product: Shape;
}

/// Says that the innermost axis is `A`, and gives the shape with `N` in its place.
#[diagnostic::on_unimplemented(
    message = "shape `{Self}` does not end with the axis `{A}`",
    note = "a module applied by hand takes values whose last axis is its input's"
)]
pub trait EndsWith<A, N>: Shape {
    /// The shape with `N` innermost.
    type Ended: Shape;
}

/// Gives the shape after two axes have changed places.
pub trait SwapAxes<A, I, B, J>: Shape {
    /// The position of `A`.
    const FIRST: usize;
    /// The position of `B`.
    const SECOND: usize;
    /// The shape after the swap.
    type Swapped: Shape;
}

impl<S, A, I, B, J> SwapAxes<A, I, B, J> for S
where
    S: ReplaceAxis<A, I, Hole>,
    S: HasAxis<B, J>,
    <S as ReplaceAxis<A, I, Hole>>::Replaced: ReplaceAxis<B, J, A>,
    <<S as ReplaceAxis<A, I, Hole>>::Replaced as ReplaceAxis<B, J, A>>::Replaced: ReplaceAxis<Hole, I, B>,
{
    const FIRST: usize = <S as HasAxis<A, I>>::POSITION;
    const SECOND: usize = <S as HasAxis<B, J>>::POSITION;
    type Swapped = <<<S as ReplaceAxis<A, I, Hole>>::Replaced as ReplaceAxis<B, J, A>>::Replaced as ReplaceAxis<Hole, I, B>>::Replaced;
}

macro_rules! shape {
    ($rank:literal: $($d:ident)*) => {
        impl<$($d: DimName),*> Shape for ($($d,)*) {
            const RANK: usize = $rank;
            const NAMES: &'static [&'static str] = &[$($d::NAME),*];
            fn fixed_axes() -> Vec<Axis> {
                vec![$($d::axis($d::FIXED)),*]
            }
        }
        impl<Sig, $($d: Dim<Sig>),*> ShapeOf<Sig> for ($($d,)*) {
            fn axes() -> Vec<Axis> {
                vec![$($d::axis($d::SIZE)),*]
            }
        }
    };
}
shape!(0:);
shape!(1: A);
shape!(2: A B);
shape!(3: A B C);
shape!(4: A B C D);
shape!(5: A B C D E);

macro_rules! axis {
    ($($p:ident $n:literal [$($before:ident)*] $x:ident [$($after:ident)*];)+) => {$(
        impl<$($before: DimName,)* $x: DimName, $($after: DimName),*> HasAxis<$x, $p> for ($($before,)* $x, $($after,)*) {
            const POSITION: usize = $n;
            type Removed = ($($before,)* $($after,)*);
        }
        impl<New: DimName, $($before: DimName,)* $x: DimName, $($after: DimName),*> ReplaceAxis<$x, $p, New>
            for ($($before,)* $x, $($after,)*)
        {
            type Replaced = ($($before,)* New, $($after,)*);
        }
    )+};
}
axis! {
    P0 0 [] A [];
    P0 0 [] A [B];
    P1 1 [A] B [];
    P0 0 [] A [B C];
    P1 1 [A] B [C];
    P2 2 [A B] C [];
    P0 0 [] A [B C D];
    P1 1 [A] B [C D];
    P2 2 [A B] C [D];
    P3 3 [A B C] D [];
    P0 0 [] A [B C D E];
    P1 1 [A] B [C D E];
    P2 2 [A B] C [D E];
    P3 3 [A B C] D [E];
    P4 4 [A B C D] E [];
}

macro_rules! split {
    ($($p:ident [$($before:ident)*] $x:ident [$($after:ident)*];)+) => {$(
        impl<X: DimName, Y: DimName, $($before: DimName,)* $x: DimName, $($after: DimName),*> SplitAxis<$x, $p, X, Y>
            for ($($before,)* $x, $($after,)*)
        {
            type Split = ($($before,)* X, Y, $($after,)*);
        }
    )+};
}
split! {
    P0 [] A [];
    P0 [] A [B];
    P1 [A] B [];
    P0 [] A [B C];
    P1 [A] B [C];
    P2 [A B] C [];
    P0 [] A [B C D];
    P1 [A] B [C D];
    P2 [A B] C [D];
    P3 [A B C] D [];
}

macro_rules! merge {
    ($($p:ident $n:literal [$($before:ident)*] $x:ident $y:ident [$($after:ident)*];)+) => {$(
        impl<New: DimName, $($before: DimName,)* $x: DimName, $y: DimName, $($after: DimName),*> MergeAxes<$x, $y, $p, New>
            for ($($before,)* $x, $y, $($after,)*)
        {
            const POSITION: usize = $n;
            type Merged = ($($before,)* New, $($after,)*);
        }
    )+};
}
merge! {
    P0 0 [] A B [];
    P0 0 [] A B [C];
    P1 1 [A] B C [];
    P0 0 [] A B [C D];
    P1 1 [A] B C [D];
    P2 2 [A B] C D [];
    P0 0 [] A B [C D E];
    P1 1 [A] B C [D E];
    P2 2 [A B] C D [E];
    P3 3 [A B C] D E [];
}

macro_rules! prepend {
    ($([$($d:ident)*])+) => {$(
        impl<New: DimName, $($d: DimName),*> Prepend<New> for ($($d,)*) {
            type Prepended = (New, $($d,)*);
        }
        impl<New: DimName, $($d: DimName),*> Append<New> for ($($d,)*) {
            type Appended = ($($d,)* New,);
        }
    )+};
}
prepend!([] [A] [A B] [A B C] [A B C D]);

macro_rules! ends_with {
    ($([$($d:ident)*])+) => {$(
        impl<New: DimName, Last: DimName, $($d: DimName),*> EndsWith<Last, New> for ($($d,)* Last,) {
            type Ended = ($($d,)* New,);
        }
    )+};
}
ends_with!([] [A] [A B] [A B C] [A B C D]);

macro_rules! permute {
    ($($shape:tt [$($d:ident)*] [$($x:ident $i:ident)*];)+) => {$(
        impl<$($d: DimName,)* $($x: DimName, $i),*> PermuteTo<($($x,)*), ($($i,)*)> for $shape
        where
            $($shape: HasAxis<$x, $i>),*
        {
            const ORDER: &'static [usize] = &[$(<$shape as HasAxis<$x, $i>>::POSITION),*];
        }
    )+};
}
permute! {
    (A, B) [A B] [X I Y J];
    (A, B, C) [A B C] [X I Y J Z K];
    (A, B, C, D) [A B C D] [X I Y J Z K W L];
    (A, B, C, D, E) [A B C D E] [X I Y J Z K W L V M];
}

macro_rules! broadcast {
    ($([$($free:ident)*] [$($d:ident $x:ident)*];)+) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($free: DimName,)* $($d: DimName + Fits<$x>, $x: DimName),*> BroadcastFrom<($($x,)*)> for ($($free,)* $($d,)*) {}
    )+};
}
broadcast! {
    [] [];
    [A] [];
    [] [A X];
    [A B] [];
    [A] [B X];
    [] [A X B Y];
    [A B C] [];
    [A B] [C X];
    [A] [B X C Y];
    [] [A X B Y C Z];
    [A B C D] [];
    [A B C] [D X];
    [A B] [C X D Y];
    [A] [B X C Y D Z];
    [] [A X B Y C Z D W];
    [A B C D E] [];
    [A B C D] [E X];
    [A B C] [D X E Y];
    [A B] [C X D Y E Z];
    [A] [B X C Y D Z E W];
    [] [A X B Y C Z D W E V];
}

macro_rules! expanded_from {
    ($([$($d:ident $x:ident)*];)+) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($d: DimName + Fits<$x>, $x: DimName),*> ExpandedFrom<($($x,)*)> for ($($d,)*) {}
    )+};
}
expanded_from! {
    [];
    [A X];
    [A X B Y];
    [A X B Y C Z];
    [A X B Y C Z D W];
    [A X B Y C Z D W E V];
}

impl Expand for () {
    const POSITION: usize = 0;
    type Expanded = (One,);
}
macro_rules! expand {
    ($([$($d:ident)*];)+) => {$(
        impl<First: DimName, $($d: DimName),*> Expand for (First, $($d,)*)
        where
            (First, $($d,)*): ExpandBehind<First::Batched>,
        {
            const POSITION: usize = <Self as ExpandBehind<First::Batched>>::POSITION;
            type Expanded = <Self as ExpandBehind<First::Batched>>::Expanded;
        }
        impl<First: DimName, $($d: DimName),*> ExpandBehind<IsBatch> for (First, $($d,)*) {
            const POSITION: usize = 1;
            type Expanded = (First, One, $($d,)*);
        }
        impl<First: DimName, $($d: DimName),*> ExpandBehind<IsNotBatch> for (First, $($d,)*) {
            const POSITION: usize = 0;
            type Expanded = (One, First, $($d,)*);
        }
    )+};
}
expand! {
    [];
    [A];
    [A B];
    [A B C];
}

macro_rules! matmul {
    ($([$($left:ident)*] [$($right:ident)*];)+) => {$(
        impl<$($left: DimName,)* N: DimName, K: DimName, M: DimName> MatMul<($($right,)* K, M)> for ($($left,)* N, K) {
            type Product = ($($left,)* N, M);
        }
    )+};
}
matmul! {
    [] [];
    [A] [];
    [A] [A];
    [A B] [];
    [A B] [A B];
    [A B C] [];
    [A B C] [A B C];
}
