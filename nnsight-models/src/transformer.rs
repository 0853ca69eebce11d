//! A transformer: what embeds tokens, the layers, and what follows on them.

use candle_core::{DType, Device, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::run::StagedModel;
use nnsight_kernels::upcast_for_sums;
use nnsight_lm::{Language, PromptKind, TokenBatch};

use crate::decoder::Decoder;

/// A transformer: what embeds tokens, the layers, and what follows on them. Every [`Decoder`] is one; an encoder, whose positions see each other in
/// both directions, says itself how it is.
pub trait Transformer: Instrument + Send + Sync {
    /// Whether it continues prompts: [`Language`], or [`Encoder`](nnsight_lm::Encoder).
    type Kind: PromptKind;
    /// One layer.
    type Layer: Forward + Instrument;
    /// The residual stream before the first layer.
    ///
    /// # Shapes
    /// `tokens`: `(Batch, Seq)`; the result: `(Batch, Seq, Hidden)`.
    ///
    /// # Errors
    /// What a computation or an intervention fails with.
    fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor>;
    /// The layers.
    fn layers(&self) -> &[Self::Layer];
    /// The place of the first module of a head, which treats every position by itself and is run only for those that are wanted. Without a head, the
    /// last layer too is run for all positions.
    fn head(&self) -> Option<Place>;
    /// What the model computes of the last layer's output: of a language model the logits, of an encoder the hidden states.
    ///
    /// # Shapes
    /// `x`: `(Batch, Seq, Hidden)`, of some of the positions if there is a head; the result: rows and positions first.
    ///
    /// # Errors
    /// What a computation or an intervention fails with.
    fn finish(&self, x: Tensor, cx: &mut Cx) -> Result<Tensor>;
}

impl<D: Decoder> Transformer for D {
    type Kind = Language;
    type Layer = D::Layer;

    fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Decoder::embed(self, tokens, cx)
    }

    fn layers(&self) -> &[D::Layer] {
        Decoder::layers(self)
    }

    fn head(&self) -> Option<Place> {
        Some(self.after_layers())
    }

    fn finish(&self, x: Tensor, cx: &mut Cx) -> Result<Tensor> {
        let [wide] = upcast_for_sums([&x])?;
        Ok(self.logits(&wide, cx)?.to_dtype(x.dtype())?)
    }
}

/// A transformer as the executor runs it, stage by stage.
pub(crate) struct Staged<N> {
    pub network: N,
    pub device: Device,
    pub dtype: DType,
}

impl<N: Transformer> StagedModel for Staged<N> {
    type State = Tensor;

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn count(&self) -> usize {
        self.network.layers().len() + 2
    }

    fn begin(&self, cx: &mut Cx) -> Result<Tensor> {
        Ok(cx.batch::<TokenBatch>()?.tokens().clone())
    }

    fn stage(&self, index: usize, state: Tensor, cx: &mut Cx) -> Result<Tensor> {
        let (layers, has_head) = (self.network.layers(), self.network.head().is_some());
        if index == 0 {
            return self.network.embed(&state, cx);
        }
        if let Some(layer) = layers.get(index - 1) {
            return match index == layers.len() && has_head {
                true => cx.call_last(layer, &state),
                false => cx.call(layer, &state),
            };
        }
        let state = if has_head { cx.for_head(state)? } else { state };
        self.network.finish(state, cx)
    }

    fn output(&self, state: Tensor) -> Tensor {
        state
    }

    fn head(&self) -> Option<usize> {
        self.network.head()?.first()
    }

    fn find(&self, path: &str) -> Option<&dyn Forward> {
        Instrument::find(&self.network, path)
    }
}
