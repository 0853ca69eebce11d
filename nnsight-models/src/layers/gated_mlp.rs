//! An MLP whose neurons are gated.

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::Batch;
use nnsight_kernels::{MaybeOwned, gelu, mul, silu, silu_mul};
use nnsight_lm::{Hidden, Mlp, Seq};
use nnsight_macros::Module;

use super::fused_linear;
use super::plain::Linear;
use crate::Result as Loaded;
use crate::loading::{Load, Loader};

/// `down(activation(gate(x)) * up(x))` (Shazeer 2020).
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct GatedMlp {
    /// The gate, before its activation.
    #[child(pointwise, from(input))]
    gate_proj: Linear<Hidden, Mlp>,
    /// What the gate lets through.
    #[child(pointwise, from(input))]
    up_proj: Linear<Hidden, Mlp>,
    /// Back to the residual stream; its input is what the neurons give.
    #[tap(act: (Batch, Seq, Mlp), from(gate_proj))]
    #[child(pointwise)]
    down_proj: Linear<Mlp, Hidden>,
    activation: Activation,
    place: Place,
}

/// What a gate goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`
    #[default]
    Silu,
    /// GELU in its tanh approximation.
    Gelu,
}

/// How a [`GatedMlp`] is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct GatedMlpOptions {
    /// Whether its maps have biases.
    pub bias: bool,
    /// What the gate goes through.
    pub activation: Activation,
}

impl<F> Load<F> for GatedMlp {
    type Options = GatedMlpOptions;

    fn load(loader: &mut Loader<'_, F>, GatedMlpOptions { bias, activation }: GatedMlpOptions) -> Loaded<Self> {
        let options = super::LinearOptions { bias, ..Default::default() };
        Ok(GatedMlp {
            gate_proj: loader.child("gate_proj", |loader| Load::load(loader, options))?,
            up_proj: loader.child("up_proj", |loader| Load::load(loader, options))?,
            down_proj: loader.child("down_proj", |loader| Load::load(loader, options))?,
            activation,
            place: Place::default(),
        })
    }
}

impl Forward for GatedMlp {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let [gate, up] = fused_linear([&self.gate_proj, &self.up_proj], x, cx)?;
        let up = up.into_tensor();
        // The activation by itself exists only where somebody looks at it.
        let neurons = match (cx.wants(&[Self::ACT]), self.activation) {
            (false, Activation::Silu) => silu_mul(gate, &up)?.into_tensor(),
            (_, Activation::Silu) => mul(&cx.tap(Self::ACT, silu(&gate.into_tensor())?)?, &up)?,
            (_, Activation::Gelu) => mul(&cx.tap(Self::ACT, gelu(&gate.into_tensor())?)?, &up)?,
        };
        cx.call_owned(&self.down_proj, &neurons)
    }
}
