//! A decoder-only transformer: what embeds tokens, the layers, and what makes logits of the last one's output.

use candle_core::{DType, Device, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::run::StagedModel;
use nnsight_kernels::upcast_for_sums;
use nnsight_lm::TokenBatch;

/// A decoder-only transformer: what embeds tokens, the layers, and what makes logits of the last one's output.
pub trait Decoder: Instrument + Send + Sync {
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
    /// The place of the first module after the layers.
    fn after_layers(&self) -> Place;
    /// The logits, of every position by itself.
    ///
    /// # Shapes
    /// `x`: `(Batch, Seq, Hidden)`, some of the positions; the result: `(Batch, Seq, Vocab)`.
    ///
    /// # Errors
    /// What a computation or an intervention fails with.
    fn logits(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor>;
}

/// A decoder as the executor runs it, stage by stage.
pub(crate) struct Staged<N> {
    pub network: N,
    pub device: Device,
    pub dtype: DType,
}

impl<N: Decoder> StagedModel for Staged<N> {
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
        let layers = self.network.layers();
        if index == 0 {
            return self.network.embed(&state, cx);
        }
        if let Some(layer) = layers.get(index - 1) {
            return match index == layers.len() {
                true => cx.call_last(layer, &state),
                false => cx.call(layer, &state),
            };
        }
        let state = cx.for_head(state)?;
        let [wide] = upcast_for_sums([&state])?;
        Ok(self.network.logits(&wide, cx)?.to_dtype(state.dtype())?)
    }

    fn output(&self, state: Tensor) -> Tensor {
        state
    }

    fn head(&self) -> Option<usize> {
        self.network.after_layers().first()
    }

    fn find(&self, path: &str) -> Option<&dyn Forward> {
        Instrument::find(&self.network, path)
    }
}
