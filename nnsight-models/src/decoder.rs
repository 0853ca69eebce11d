//! A decoder-only transformer: what embeds tokens, the layers, and what makes logits of the last one's output.

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};

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
