//! Normalisations of the residual stream.

use std::marker::PhantomData;

use candle_core::{D, DType, Tensor};
use nnsight_core::Result;
use nnsight_core::kernels::widen_for_sums;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, Hidden, Seq, Signature};
use nnsight_macros::Module;

use super::cpu;

/// Whether the fused form can be taken: it has no gradient, and is not there for f64.
fn is_fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| !tensor.track_op() && tensor.dtype() != DType::F64)
}

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
        let (dtype, [x, weight]) = (x.dtype(), &widen_for_sums([x, &weight])?);
        let normed = if cpu::takes(&[x, weight]) {
            cpu::rms_norm(x, weight, self.epsilon as f32)?
        } else if is_fused(&[x, weight]) {
            candle_nn::ops::rms_norm(&x.contiguous()?, &weight.contiguous()?, self.epsilon as f32)?
        } else {
            let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?;
            x.broadcast_div(&scale)?.broadcast_mul(weight)?
        };
        Ok(normed.to_dtype(dtype)?)
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
        let (dtype, [x, weight, bias]) = (x.dtype(), &widen_for_sums([x, &weight, &bias])?);
        let normed = if is_fused(&[x, weight, bias]) {
            candle_nn::ops::layer_norm(&x.contiguous()?, &weight.contiguous()?, &bias.contiguous()?, self.epsilon as f32)?
        } else {
            let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
            let scale = (centered.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?;
            centered.broadcast_div(&scale)?.broadcast_mul(weight)?.broadcast_add(bias)?
        };
        Ok(normed.to_dtype(dtype)?)
    }
}
