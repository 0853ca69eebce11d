//! A tensor outside a trace, with its model, shape and kind.

use std::marker::PhantomData;
use std::ops::{Deref, Div, Mul, Neg};
use std::panic::Location;

use candle_core::{DType, Tensor as Candle};

use super::{Float, HasAxis, Kind, KindTag, Shape, ShapeOf};
use crate::{Error, Result};

/// A tensor of the model `C` with the shape `S` and the kind `K`; what a trace gives back, and what may be put into one.
///
/// It derefs to [`candle_core::Tensor`].
pub struct Tensor<C, S, K = Float> {
    inner: Candle,
    marker: PhantomData<fn() -> (C, S, K)>,
}

impl<C, S, K> Clone for Tensor<C, S, K> {
    fn clone(&self) -> Self {
        Tensor::trusted(self.inner.clone())
    }
}

impl<C, S, K> Deref for Tensor<C, S, K> {
    type Target = Candle;
    fn deref(&self) -> &Candle {
        &self.inner
    }
}

impl<C, S: Shape, K> std::fmt::Debug for Tensor<C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({}: {:?})", S::NAMES.join(", "), self.inner.dims())
    }
}

impl<C, S: Shape, K> std::fmt::Display for Tensor<C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.inner, f)
    }
}

impl<C, S, K> Tensor<C, S, K> {
    /// Wraps a tensor whose shape is right by construction.
    pub(crate) fn trusted(inner: Candle) -> Self {
        Tensor { inner, marker: PhantomData }
    }

    /// The candle tensor itself.
    pub fn into_inner(self) -> Candle {
        self.inner
    }
}

impl<C, S: ShapeOf<C>, K: Kind> Tensor<C, S, K> {
    /// Gives a tensor its type.
    ///
    /// # Errors
    /// [`Error::TensorShape`] where the rank or a size differs from what the signature says, [`Error::TensorKind`] where the entries
    /// are of another kind.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Hidden, Tensor};
    /// let zeros = candle_core::Tensor::zeros(576, candle_core::DType::F32, &candle_core::Device::Cpu)?;
    /// let direction = Tensor::<Dynamic, (Hidden,)>::new(zeros)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn new(inner: Candle) -> Result<Self> {
        let place = Location::caller();
        let place = || Some(place.into());
        let axes = S::axes();
        let fits = axes.len() == inner.rank() && axes.iter().zip(inner.dims()).all(|(axis, &found)| axis.size.is_none_or(|size| size == found));
        if !fits {
            let expected = axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::TensorShape { expected: format!("({expected})"), found: inner.dims().to_vec(), source_line: place() });
        }
        if kind_of(inner.dtype()) != K::TAG {
            return Err(Error::TensorKind { expected: K::TAG.name(), found: inner.dtype().as_str(), source_line: place() });
        }
        Ok(Tensor::trusted(inner))
    }

    /// Says that the tensor is meant for another checkpoint, whose sizes it has.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    #[track_caller]
    pub fn to_signature<D>(&self) -> Result<Tensor<D, S, K>>
    where
        S: ShapeOf<D>,
    {
        Tensor::new(self.inner.clone())
    }
}

impl<C, S: Shape, K> Tensor<C, S, K> {
    /// One entry of an axis; negative indices count from the end. The axis is gone from the result.
    ///
    /// # Panics
    /// Where the index is out of range, as indexing a slice does.
    #[track_caller]
    pub fn at<A, I>(&self, _axis: A, index: i64) -> Tensor<C, S::Removed, K>
    where
        S: HasAxis<A, I>,
    {
        let size = self.inner.dims()[S::POSITION];
        let entry = if index < 0 { index + size as i64 } else { index };
        assert!((0..size as i64).contains(&entry), "index {index} is out of range for the axis {} of size {size}", S::NAMES[S::POSITION]);
        let narrowed = self.inner.narrow(S::POSITION, entry as usize, 1).and_then(|t| t.squeeze(S::POSITION));
        Tensor::trusted(narrowed.expect("the index was checked against the axis"))
    }
}

/// What kind of entries a candle type holds.
pub(crate) fn kind_of(dtype: DType) -> KindTag {
    match dtype {
        DType::U8 => KindTag::Bool,
        DType::U32 | DType::I64 | DType::I32 | DType::I16 => KindTag::Int,
        _ => KindTag::Float,
    }
}

/// A tensor times a number, which becomes part of the graph when it is used in a trace.
#[derive(Debug)]
pub struct Scaled<C, S: Shape, K = Float> {
    pub(crate) tensor: Tensor<C, S, K>,
    pub(crate) factor: f64,
}

impl<C, S: Shape, K> Clone for Scaled<C, S, K> {
    fn clone(&self) -> Self {
        Scaled { tensor: self.tensor.clone(), factor: self.factor }
    }
}

macro_rules! scale {
    ($($target:ty),+) => {$(
        impl<C, S: Shape> Mul<f64> for $target {
            type Output = Scaled<C, S>;
            fn mul(self, factor: f64) -> Scaled<C, S> {
                Scaled { tensor: self.clone(), factor }
            }
        }
        impl<C, S: Shape> Div<f64> for $target {
            type Output = Scaled<C, S>;
            fn div(self, divisor: f64) -> Scaled<C, S> {
                Scaled { tensor: self.clone(), factor: 1.0 / divisor }
            }
        }
        impl<C, S: Shape> Neg for $target {
            type Output = Scaled<C, S>;
            fn neg(self) -> Scaled<C, S> {
                Scaled { tensor: self.clone(), factor: -1.0 }
            }
        }
    )+};
}
scale!(Tensor<C, S>, &Tensor<C, S>);

impl<C, S: Shape> Mul<f64> for Scaled<C, S> {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Scaled { factor: self.factor * factor, ..self }
    }
}
