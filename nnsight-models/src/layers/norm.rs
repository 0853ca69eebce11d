//! Normalisations of the residual stream.

use std::marker::PhantomData;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, Signature};
use nnsight_kernels::{layer_norm, rms_norm};
use nnsight_lm::{Hidden, Seq};
use nnsight_macros::Module;

/// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct RmsNorm<C: Signature> {
    #[tap(weight: (Hidden,), from())]
    weight: Tensor,
    epsilon: f64,
    place: Place,
    marker: PhantomData<fn() -> C>,
}

impl<C: Signature> RmsNorm<C> {
    /// From a weight of shape `(Hidden,)`.
    pub fn new(weight: Tensor, epsilon: f64) -> Self {
        RmsNorm { weight, epsilon, place: Place::default(), marker: PhantomData }
    }
}

impl<C: Signature> Forward for RmsNorm<C> {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let weight = cx.parameter(Self::WEIGHT, &self.weight)?;
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

impl<C: Signature> Forward for LayerNorm<C> {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let weight = cx.parameter(Self::WEIGHT, &self.weight)?;
        let bias = cx.parameter(Self::BIAS, &self.bias)?;
        Ok(layer_norm(x, &weight, &bias, self.epsilon)?)
    }
}
