//! A tensor times a number, which is not computed before it is needed.

use std::ops::{Deref, Div, Mul, Neg};
use std::sync::OnceLock;

use super::{Float, Shape, Tensor};
use crate::Result;

/// A tensor times a number. Used in a trace, the number becomes part of the graph; anywhere else it is the product.
///
/// It derefs to [`Tensor`].
///
/// # Panics
/// Dereferencing panics if the device fails, for want of memory say; [`Scaled::tensor`] returns that as an error.
///
/// # Examples
/// ```
/// use nnsight_core::types::{Dynamic, Tensor};
/// # nnsight_core::model_dims!(Width);
/// let entries = candle_core::Tensor::new(&[3f32, 4.0], &candle_core::Device::Cpu)?;
/// let direction = Tensor::<Dynamic, (Width,)>::new(entries)?;
/// let half = &direction * 0.5;
/// assert_eq!(half.norm(Width)?.to_scalar::<f32>()?, 2.5);
/// assert_eq!((&direction - &half)?.to_vec1::<f32>()?, [1.5, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Scaled<C, S: Shape, K = Float> {
    pub(crate) tensor: Tensor<C, S, K>,
    pub(crate) factor: f64,
    product: OnceLock<Tensor<C, S, K>>,
}

impl<C, S: Shape, K> Clone for Scaled<C, S, K> {
    fn clone(&self) -> Self {
        Scaled::new(self.tensor.clone(), self.factor)
    }
}

impl<C, S: Shape, K> Scaled<C, S, K> {
    fn new(tensor: Tensor<C, S, K>, factor: f64) -> Self {
        Scaled { tensor, factor, product: OnceLock::new() }
    }

    /// The product.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensor(&self) -> Result<Tensor<C, S, K>> {
        if let Some(product) = self.product.get() {
            return Ok(product.clone());
        }
        self.tensor.saved().affine(self.factor, 0.0).map(Tensor::of)
    }
}

impl<C, S: Shape, K> Deref for Scaled<C, S, K> {
    type Target = Tensor<C, S, K>;
    #[track_caller]
    fn deref(&self) -> &Tensor<C, S, K> {
        self.product.get_or_init(|| self.tensor().unwrap_or_else(|error| panic!("{error}")))
    }
}

macro_rules! scale {
    ($($target:ty),+) => {$(
        impl<C, S: Shape> Mul<f64> for $target {
            type Output = Scaled<C, S>;
            fn mul(self, factor: f64) -> Scaled<C, S> {
                Scaled::new(self.clone(), factor)
            }
        }
        impl<C, S: Shape> Mul<$target> for f64 {
            type Output = Scaled<C, S>;
            fn mul(self, tensor: $target) -> Scaled<C, S> {
                Scaled::new(tensor.clone(), self)
            }
        }
        impl<C, S: Shape> Div<f64> for $target {
            type Output = Scaled<C, S>;
            fn div(self, divisor: f64) -> Scaled<C, S> {
                Scaled::new(self.clone(), 1.0 / divisor)
            }
        }
        impl<C, S: Shape> Neg for $target {
            type Output = Scaled<C, S>;
            fn neg(self) -> Scaled<C, S> {
                Scaled::new(self.clone(), -1.0)
            }
        }
    )+};
}
scale!(Tensor<C, S>, &Tensor<C, S>);

macro_rules! scale_again {
    ($($target:ty),+) => {$(
        impl<C, S: Shape> Mul<f64> for $target {
            type Output = Scaled<C, S>;
            fn mul(self, factor: f64) -> Scaled<C, S> {
                Scaled::new(self.tensor.clone(), self.factor * factor)
            }
        }
        impl<C, S: Shape> Div<f64> for $target {
            type Output = Scaled<C, S>;
            fn div(self, divisor: f64) -> Scaled<C, S> {
                Scaled::new(self.tensor.clone(), self.factor / divisor)
            }
        }
        impl<C, S: Shape> Neg for $target {
            type Output = Scaled<C, S>;
            fn neg(self) -> Scaled<C, S> {
                Scaled::new(self.tensor.clone(), -self.factor)
            }
        }
    )+};
}
scale_again!(Scaled<C, S>, &Scaled<C, S>);
