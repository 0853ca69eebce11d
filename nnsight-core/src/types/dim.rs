//! Names for the axes of a tensor.

use crate::graph::{Axis, AxisRole};

/// The name of an axis.
pub trait DimName: Copy + Default + 'static {
    /// As it is written in a shape: `Width`.
    const NAME: &'static str;
    /// The number of entries, if it is the same for every model.
    const FIXED: Option<usize> = None;
    /// What the entries are to whatever runs a model.
    const ROLE: AxisRole = AxisRole::Plain;
    /// An axis of this dimension.
    fn axis(size: Option<usize>) -> Axis {
        Axis { role: Self::ROLE, ..Axis::new(Self::NAME, size) }
    }
    /// Whether this is [`Batch`], which comes before every other axis.
    #[doc(hidden)]
    type Batched;
}

#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct IsBatch;
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct IsNotBatch;

/// The size of an axis under the signature `C`.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a dimension of `{C}`", note = "declare your own with `dim!(pub {Self} = 128)`")]
pub trait Dim<C>: DimName {
    /// The number of entries, or `None` where it is known only when the model runs.
    const SIZE: Option<usize>;
}

/// Says that an axis of the left shape takes an axis of the right one: the same name, or [`One`].
pub trait Fits<R> {}

/// Declares dimensions of your own: `dim!(pub Features = 24576)`, or `dim!(pub Examples)` where the size varies.
///
/// # Examples
/// ```
/// nnsight_core::dim!(pub Features = 24576, pub Examples);
/// ```
#[macro_export]
macro_rules! dim {
    ($($(#[$meta:meta])* $vis:vis $name:ident $(= $size:expr)?),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name;
        $crate::__dim_name!($name $(, size $size)?);
        impl<C> $crate::types::Dim<C> for $name {
            const SIZE: Option<usize> = <$name as $crate::types::DimName>::FIXED;
        }
    )+};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __dim_name {
    ($name:ident $(, role $role:ident)? $(, size $size:expr)?) => {
        impl $crate::types::DimName for $name {
            const NAME: &'static str = stringify!($name);
            $(const FIXED: Option<usize> = Some($size);)?
            $(const ROLE: $crate::graph::AxisRole = $crate::graph::AxisRole::$role;)?
            type Batched = $crate::types::IsNotBatch;
        }
        impl $crate::types::Fits<$name> for $name {}
        impl $crate::types::Fits<$crate::types::One> for $name {}
        $crate::__dim_axis!($name);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __dim_axis {
    ($name:ty $(, $($generics:tt)+)?) => {
        impl<S: $crate::types::HasAxis<$name, I>, I $(, $($generics)+)?> $crate::types::Along<S, I> for $name {
            type Removed<C, K> = $crate::Result<$crate::types::Tensor<C, <S as $crate::types::HasAxis<$name, I>>::Removed, K>>;
            fn position(&self, _rank: usize) -> $crate::__private::CandleResult<usize> {
                Ok(<S as $crate::types::HasAxis<$name, I>>::POSITION)
            }
            fn finish<C, K>(result: $crate::Result<$crate::types::Saved>) -> Self::Removed<C, K> {
                $crate::types::named::<C, S, $name, I, K>(result)
            }
        }
    };
}

/// The rows of an invoke: its inputs side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch;
impl DimName for Batch {
    const NAME: &'static str = "Batch";
    const ROLE: AxisRole = AxisRole::Row;
    type Batched = IsBatch;
}
impl<C> Dim<C> for Batch {
    const SIZE: Option<usize> = None;
}
impl Fits<Batch> for Batch {}
impl Fits<One> for Batch {}
crate::__dim_axis!(Batch);

/// Declares dimensions whose entries are positions of an input: `position_dims!(pub Frames = Position)`. Their sizes vary from input to input, and
/// what they are to whatever runs a model is an [`AxisRole`].
///
/// # Examples
/// ```
/// nnsight_core::position_dims!(pub Frames = Position, pub Asking = Query, pub Asked = Key);
/// ```
#[macro_export]
macro_rules! position_dims {
    ($($(#[$meta:meta])* $vis:vis $name:ident = $role:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name;
        $crate::__dim_name!($name, role $role);
        impl<C> $crate::types::Dim<C> for $name {
            const SIZE: Option<usize> = None;
        }
    )+};
}

/// Declares dimensions whose sizes are those of a [`Signature`](crate::types::Signature), by their names: `model_dims!(pub Channels)`.
///
/// # Examples
/// ```
/// nnsight_core::model_dims!(pub Channels, pub Levels);
/// ```
#[macro_export]
macro_rules! model_dims {
    ($($(#[$meta:meta])* $vis:vis $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name;
        $crate::__dim_name!($name);
        impl<C: $crate::types::Signature> $crate::types::Dim<C> for $name {
            const SIZE: Option<usize> = $crate::types::size_of_dim(C::SIZES, <$name as $crate::types::DimName>::NAME);
        }
    )+};
}

crate::dim!(
    /// What `topk` found, best first.
    pub Ranked,
    /// Values put together by `stack`.
    pub Stacked,
);

/// An axis of one entry, which broadcasts against any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct One;
impl DimName for One {
    const NAME: &'static str = "One";
    const ROLE: AxisRole = AxisRole::One;
    const FIXED: Option<usize> = Some(1);
    type Batched = IsNotBatch;
}
impl Fits<One> for One {}
crate::__dim_axis!(One);
impl<C> Dim<C> for One {
    const SIZE: Option<usize> = Some(1);
}

/// Some of the entries of an axis, as `slice` gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part<D>(pub D);
impl<D: DimName> DimName for Part<D> {
    const NAME: &'static str = D::NAME;
    const ROLE: AxisRole = D::ROLE;
    type Batched = D::Batched;
}
impl<C, D: DimName> Dim<C> for Part<D> {
    const SIZE: Option<usize> = None;
}
impl<D> Fits<Part<D>> for Part<D> {}
impl<D> Fits<One> for Part<D> {}
crate::__dim_axis!(Part<D>, D: DimName);

/// Stands in for an axis while two others change places.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Hole;
impl DimName for Hole {
    const NAME: &'static str = "_";
    type Batched = IsNotBatch;
}
