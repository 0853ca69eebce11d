//! Normalisations of the residual stream and of heads.

use std::marker::PhantomData;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, DimName, Signature};
use nnsight_kernels::{layer_norm, rms_norm, upcast};
use nnsight_lm::{HeadDim, Hidden, Seq};
use nnsight_macros::Module;

use crate::Result as Loaded;
use crate::loading::{Load, Loader};

/// How an [`RmsNorm`] or a [`HeadNorm`] is read.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormOptions {
    /// What is added under the root. Every config says one: what a norm without one computes is not a number.
    pub epsilon: f64,
    /// What is added to the weight: 0, if nothing else is said.
    pub offset: f64,
}

impl Default for RmsNormOptions {
    fn default() -> Self {
        RmsNormOptions { epsilon: f64::NAN, offset: 0.0 }
    }
}

/// The weight of a norm with something added to it, in `f32`.
fn shifted(weight: Tensor, offset: f64) -> Result<Tensor> {
    if offset == 0.0 { Ok(weight) } else { Ok((upcast(&weight)? + offset)?) }
}

/// `x / sqrt(mean(x^2) + epsilon) * (weight + offset)` along the axis `D` (Zhang and Sennrich 2019).
#[derive(Module)]
#[module(input: (Batch, Seq, D), output: (Batch, Seq, D), pointwise(D, D))]
pub struct RmsNorm<C: Signature, D: DimName = Hidden> {
    #[tap(weight: (D,), from())]
    weight: Tensor,
    epsilon: f64,
    offset: f64,
    place: Place,
    marker: PhantomData<fn() -> (C, D)>,
}

impl<C: Signature, D: DimName> RmsNorm<C, D> {
    /// From a weight of shape `(D,)`.
    pub fn new(weight: Tensor, epsilon: f64) -> Self {
        RmsNorm { weight, epsilon, offset: 0.0, place: Place::default(), marker: PhantomData }
    }
}

impl<F, C: Signature, D: DimName> Load<F> for RmsNorm<C, D> {
    type Options = RmsNormOptions;

    fn load(loader: &mut Loader<'_, F>, RmsNormOptions { epsilon, offset }: RmsNormOptions) -> Loaded<Self> {
        let size = loader.size::<D>()?;
        Ok(RmsNorm { offset, ..RmsNorm::new(loader.tensor("weight", &[size])?, epsilon) })
    }
}

impl<C: Signature, D: DimName> Forward for RmsNorm<C, D> {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let weight = shifted(cx.parameter(Self::WEIGHT, &self.weight)?, self.offset)?;
        Ok(rms_norm(x, &weight, self.epsilon)?)
    }
}

/// The [`RmsNorm`] of every head `H` by itself, with one weight for all of them.
#[derive(Module)]
#[module(input: (Batch, H, Seq, HeadDim), output: (Batch, H, Seq, HeadDim), pointwise(HeadDim, HeadDim))]
pub struct HeadNorm<C: Signature, H: DimName> {
    #[tap(weight: (HeadDim,), from())]
    weight: Tensor,
    epsilon: f64,
    offset: f64,
    place: Place,
    marker: PhantomData<fn() -> (C, H)>,
}

impl<F, C: Signature, H: DimName> Load<F> for HeadNorm<C, H> {
    type Options = RmsNormOptions;

    fn load(loader: &mut Loader<'_, F>, RmsNormOptions { epsilon, offset }: RmsNormOptions) -> Loaded<Self> {
        let size = loader.size::<HeadDim>()?;
        Ok(HeadNorm { weight: loader.tensor("weight", &[size])?, epsilon, offset, place: Place::default(), marker: PhantomData })
    }
}

impl<C: Signature, H: DimName> Forward for HeadNorm<C, H> {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let weight = shifted(cx.parameter(Self::WEIGHT, &self.weight)?, self.offset)?;
        Ok(rms_norm(x, &weight, self.epsilon)?)
    }
}

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias` (Ba et al. 2016).
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct LayerNorm<C: Signature> {
    #[tap(weight: (Hidden,), from())]
    weight: Tensor,
    #[tap(bias: (Hidden,), from())]
    bias: Tensor,
    epsilon: f64,
    place: Place,
    marker: PhantomData<fn() -> C>,
}

impl<C: Signature> LayerNorm<C> {
    /// From a weight and a bias of shape `(Hidden,)`.
    pub fn new(weight: Tensor, bias: Tensor, epsilon: f64) -> Self {
        LayerNorm { weight, bias, epsilon, place: Place::default(), marker: PhantomData }
    }
}

/// How a [`LayerNorm`] is read.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormOptions {
    /// What is added under the root. Every config says one: what a norm without one computes is not a number.
    pub epsilon: f64,
}

impl Default for LayerNormOptions {
    fn default() -> Self {
        LayerNormOptions { epsilon: f64::NAN }
    }
}

impl<F, C: Signature> Load<F> for LayerNorm<C> {
    type Options = LayerNormOptions;

    fn load(loader: &mut Loader<'_, F>, LayerNormOptions { epsilon }: LayerNormOptions) -> Loaded<Self> {
        let size = loader.size::<Hidden>()?;
        Ok(LayerNorm::new(loader.tensor("weight", &[size])?, loader.tensor("bias", &[size])?, epsilon))
    }
}

impl<C: Signature> Forward for LayerNorm<C> {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let weight = cx.parameter(Self::WEIGHT, &self.weight)?;
        let bias = cx.parameter(Self::BIAS, &self.bias)?;
        Ok(layer_norm(x, &weight, &bias, self.epsilon)?)
    }
}
