//! Normalisations of the residual stream.

use std::marker::PhantomData;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, Hidden, Seq, Signature};
use nnsight_macros::Module;

/// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct RmsNorm<C: Signature> {
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
    fn forward(&self, x: &Tensor, _cx: &mut Cx) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.epsilon as f32)?)
    }
}

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias` (Ba et al. 2016).
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct LayerNorm<C: Signature> {
    weight: Tensor,
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
    fn forward(&self, x: &Tensor, _cx: &mut Cx) -> Result<Tensor> {
        Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.epsilon as f32)?)
    }
}
