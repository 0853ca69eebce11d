//! Sweeps: one block for every point of a grid, all of them in one graph.

use std::marker::PhantomData;
use std::panic::Location;
use std::path::Path;

use super::{Gradient, Results, Save, Site, SitePart, Traceable, Traced, Tracer, Value, checkpoint};
use crate::Result;
use crate::graph::{Graph, NodeId};
use crate::types::{Dim, DimName, Fits, Kind, One, Prepend, Saved, Shape, Signature, Tensor};

/// The axis of a result along which the `N`th axis of a sweep goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over<const N: usize>;

macro_rules! over {
    ($($n:literal $name:literal),+) => {$(
        impl DimName for Over<$n> {
            const NAME: &'static str = $name;
            type Batched = crate::types::IsNotBatch;
            type Listed = crate::types::Unchecked;
        }
    )+};
}
over!(0 "Over<0>", 1 "Over<1>", 2 "Over<2>");
impl<C, const N: usize> Dim<C> for Over<N>
where
    Over<N>: DimName,
{
    const SIZE: Option<usize> = None;
}
impl<const N: usize> Fits<Over<N>> for Over<N> {}
impl<const N: usize> Fits<One> for Over<N> {}
crate::__dim_axis!(Over<N>, const N: usize);

/// The points of a sweep, in order, and the sizes of its axes.
#[derive(Clone, Debug)]
pub struct Points<T, A> {
    items: Vec<T>,
    sizes: Vec<usize>,
    axes: PhantomData<fn() -> A>,
}

/// Sweeps over one, two and three axes.
#[doc(hidden)]
pub mod axes {
    #[derive(Clone, Copy, Debug)]
    pub struct OneAxis;
    #[derive(Clone, Copy, Debug)]
    pub struct TwoAxes;
    #[derive(Clone, Copy, Debug)]
    pub struct ThreeAxes;
}
use axes::{OneAxis, ThreeAxes, TwoAxes};

/// Gives the shape of a sweep's result from that of one point's.
#[diagnostic::on_unimplemented(
    message = "a sweep's result would have more than five axes",
    note = "reduce the block's value of shape `{S}` to fewer axes"
)]
pub trait SweptShape<S> {
    /// The axes of the sweep before those of the point.
    type Shape: Shape;
}
impl<S: Prepend<Over<0>>> SweptShape<S> for OneAxis {
    type Shape = S::Prepended;
}
impl<S: Prepend<Over<1>>> SweptShape<S> for TwoAxes
where
    S::Prepended: Prepend<Over<0>>,
{
    type Shape = <S::Prepended as Prepend<Over<0>>>::Prepended;
}
impl<S: Prepend<Over<2>>> SweptShape<S> for ThreeAxes
where
    S::Prepended: Prepend<Over<1>>,
    <S::Prepended as Prepend<Over<1>>>::Prepended: Prepend<Over<0>>,
{
    type Shape = <<S::Prepended as Prepend<Over<1>>>::Prepended as Prepend<Over<0>>>::Prepended;
}

/// The points of one axis. `sweep!` calls it.
pub fn points<A>(a: impl IntoIterator<Item = A>) -> Points<A, OneAxis> {
    let items = a.into_iter().collect::<Vec<_>>();
    Points { sizes: vec![items.len()], items, axes: PhantomData }
}

/// The points of two axes, the second going round fastest. `sweep!` calls it for `grid(a, b)`.
pub fn grid2<A: Clone, B: Clone>(a: impl IntoIterator<Item = A>, b: impl IntoIterator<Item = B>) -> Points<(A, B), TwoAxes> {
    let (a, b) = (a.into_iter().collect::<Vec<_>>(), b.into_iter().collect::<Vec<_>>());
    let items = a.iter().flat_map(|a| b.iter().map(move |b| (a.clone(), b.clone()))).collect();
    Points { sizes: vec![a.len(), b.len()], items, axes: PhantomData }
}

/// The points of three axes. `sweep!` calls it for `grid(a, b, c)`.
pub fn grid3<A: Clone, B: Clone, D: Clone>(
    a: impl IntoIterator<Item = A>,
    b: impl IntoIterator<Item = B>,
    c: impl IntoIterator<Item = D>,
) -> Points<(A, B, D), ThreeAxes> {
    let (inner, c) = (grid2(a, b), c.into_iter().collect::<Vec<_>>());
    let items = inner.items.iter().flat_map(|(a, b)| c.iter().map(move |c| (a.clone(), b.clone(), c.clone()))).collect();
    Points { sizes: vec![inner.sizes[0], inner.sizes[1], c.len()], items, axes: PhantomData }
}

impl<T, A> Points<T, A> {
    /// The points, and what their results are put together by.
    pub fn into_parts(self) -> (Vec<T>, Sizes<A>) {
        (self.items, Sizes { sizes: self.sizes, axes: PhantomData })
    }
}

/// The sizes of the axes of a sweep.
#[derive(Clone, Debug)]
pub struct Sizes<A> {
    sizes: Vec<usize>,
    axes: PhantomData<fn() -> A>,
}

/// What the block of a sweep may end with: a value or site, or a tuple of up to three.
#[diagnostic::on_unimplemented(
    message = "a sweep cannot put `{Self}` together",
    label = "not something that every point of a sweep can give",
    note = "the block of a sweep ends with a value or site, or a tuple of those"
)]
pub trait PointValue<'t, A>: Sized {
    /// What comes back for all points.
    type Saved;
    #[doc(hidden)]
    #[track_caller]
    fn register(values: Vec<Self>, saves: &mut Vec<NodeId>);
    #[doc(hidden)]
    fn collect(sizes: &Sizes<A>, results: &mut Results) -> Result<Self::Saved>;
}

macro_rules! point_value {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature, S: Shape, K: Kind, A: SweptShape<S>> PointValue<'t, A> for $place<'t, C, S, K> {
            type Saved = Tensor<C, A::Shape, K>;
            fn register(values: Vec<Self>, saves: &mut Vec<NodeId>) {
                // A closure would have the line of this file and not the caller's.
                for value in values {
                    saves.push(value.value().id);
                }
            }
            fn collect(sizes: &Sizes<A>, results: &mut Results) -> Result<Self::Saved> {
                let found = (0..sizes.sizes.iter().product()).map(|_| results.next()).collect::<Vec<_>>();
                let found = found.into_iter().collect::<Result<Vec<_>>>()?;
                Ok(Tensor::of(Saved::stacked(&found, &sizes.sizes)?))
            }
        }
    )+};
}
point_value!(Value, Site, SitePart, Gradient);

macro_rules! point_tuple {
    ($($name:ident $values:ident),+) => {
        impl<'t, Axes, $($name: PointValue<'t, Axes>),+> PointValue<'t, Axes> for ($($name,)+) {
            type Saved = ($($name::Saved,)+);
            fn register(values: Vec<Self>, saves: &mut Vec<NodeId>) {
                $(let mut $values = Vec::new();)+
                for point in values {
                    let ($($name,)+) = point;
                    $($values.push($name);)+
                }
                $($name::register($values, saves);)+
            }
            fn collect(sizes: &Sizes<Axes>, results: &mut Results) -> Result<Self::Saved> {
                let ($($values,)+) = ($($name::collect(sizes, results),)+);
                Ok(($($values?,)+))
            }
        }
    };
}
#[allow(non_snake_case)]
mod tuples {
    use super::{NodeId, PointValue, Result, Results, Sizes};
    point_tuple!(A a, B b);
    point_tuple!(A a, B b, C c);
}

/// The results of all points, on their way.
#[derive(Debug)]
struct Swept<V, A> {
    values: Vec<V>,
    sizes: Sizes<A>,
}

impl<'t, A, V: PointValue<'t, A>> Save<'t> for Swept<V, A> {
    type Saved = V::Saved;
    type Form = Sizes<A>;
    fn register(self, saves: &mut Vec<NodeId>) -> Sizes<A> {
        V::register(self.values, saves);
        self.sizes
    }
    fn collect(form: Sizes<A>, results: &mut Results) -> Result<V::Saved> {
        V::collect(&form, results)
    }
}

/// The graph of a sweep. `graph!` calls it.
///
/// # Errors
/// What was wrong in the block.
#[track_caller]
pub fn swept<'t, A, V: PointValue<'t, A>>(tracer: &'t Tracer, sizes: Sizes<A>, values: Vec<V>) -> Result<Graph> {
    super::graph(tracer, Swept { values, sizes })
}

/// Runs all points of a sweep. `sweep!` calls it.
///
/// # Errors
/// As [`run`](super::run), [`Error::NoPoints`](crate::Error::NoPoints), and [`Error::OtherSweep`](crate::Error::OtherSweep).
#[track_caller]
pub fn sweep<'t, M: Traceable, A, V: PointValue<'t, A>>(
    model: &M,
    tracer: &'t Tracer,
    sizes: Sizes<A>,
    values: Vec<V>,
    checkpoint: Option<&Path>,
) -> Result<V::Saved> {
    let place = Some(Location::caller().into());
    let mut saves = Vec::new();
    let form = Swept { values, sizes }.register(&mut saves);
    let found = tracer.finish(saves).and_then(|graph| checkpoint::run(model, graph, checkpoint));
    found.and_then(|found| Swept::<V, A>::collect(form, &mut Results::new(found))).map_err(|error| error.or_at(place))
}
