//! The same names on every architecture, so that one function serves all of them.

use nnsight_core::trace::{Index, Layers, Site};
use nnsight_core::types::{Batch, Signature};
use nnsight_lm::{HeadDim, Heads, Hidden, Key, Mlp, Query, Seq, Vocab};

use crate::{gpt2, llama};

/// The residual stream at one place.
type Residual<'t, C> = Site<'t, C, (Batch, Seq, Hidden)>;

/// The sites of a decoder-only language model, by names that every architecture has.
///
/// # Examples
/// ```
/// use nnsight_core::trace::{Traced, Value};
/// use nnsight_core::types::{Batch, Signature};
/// use nnsight_lm::{Hidden, Seq};
/// use nnsight_models::{CausalBlock, CausalLm};
///
/// fn middle<'t, C: Signature, M: CausalLm<'t, C>>(model: M, layer: usize) -> Value<'t, C, (Batch, Seq, Hidden)> {
///     model.block(layer).resid_mid().value()
/// }
/// ```
pub trait CausalLm<'t, C: Signature>: Copy + 't {
    /// One layer.
    type Block: CausalBlock<'t, C>;
    /// The layers.
    fn layers(&self) -> Layers<'t, C, Self::Block>;
    /// The residual stream before the first layer.
    fn embed(&self) -> Residual<'t, C>;
    /// The residual stream after the last norm.
    fn final_norm(&self) -> Residual<'t, C>;
    /// The logits.
    fn logits(&self) -> Site<'t, C, (Batch, Seq, Vocab)>;
    /// A layer by a number known when the trace is built; negative ones count from the end.
    #[track_caller]
    fn block(&self, layer: impl Index) -> Self::Block {
        *self.layers().layer(layer)
    }
}

/// The sites of one layer.
pub trait CausalBlock<'t, C: Signature>: Copy + 't {
    /// The attention.
    type Attention: CausalAttention<'t, C>;
    /// The residual stream before the layer.
    fn resid_pre(&self) -> Residual<'t, C>;
    /// The residual stream between the attention and the MLP.
    fn resid_mid(&self) -> Residual<'t, C>;
    /// The residual stream after the layer.
    fn resid_post(&self) -> Residual<'t, C>;
    /// The attention.
    fn attn(&self) -> Self::Attention;
    /// What the attention adds to the residual stream.
    fn attn_out(&self) -> Residual<'t, C>;
    /// What the MLP adds to the residual stream.
    fn mlp_out(&self) -> Residual<'t, C>;
    /// The neurons of the MLP before their activation: of a gated MLP, what goes through the gate's activation.
    fn mlp_pre(&self) -> Site<'t, C, (Batch, Seq, Mlp)>;
    /// What the neurons of the MLP give to its last matrix.
    fn mlp_post(&self) -> Site<'t, C, (Batch, Seq, Mlp)>;
}

/// The sites of an attention.
pub trait CausalAttention<'t, C: Signature>: Copy + 't {
    /// Before the softmax, scaled and masked.
    fn scores(&self) -> Site<'t, C, (Batch, Heads, Query, Key)>;
    /// After the softmax.
    fn pattern(&self) -> Site<'t, C, (Batch, Heads, Query, Key)>;
    /// The queries by heads, before any rotation.
    fn q(&self) -> Site<'t, C, (Batch, Heads, Seq, HeadDim)>;
    /// What each head gathered.
    fn z(&self) -> Site<'t, C, (Batch, Heads, Seq, HeadDim)>;
}

macro_rules! causal {
    ($arch:ident: $block:ident, layers $($layers:ident).+, embed $($embed:ident).+, norm $($norm:ident).+, attn $attn:ident, neurons $pre:ident $down:ident) => {
        impl<'t, C: Signature> CausalLm<'t, C> for $arch::Model<'t, C> {
            type Block = $arch::$block<'t, C>;
            fn layers(&self) -> Layers<'t, C, Self::Block> {
                self.$($layers).+
            }
            fn embed(&self) -> Residual<'t, C> {
                self.$($embed).+
            }
            fn final_norm(&self) -> Residual<'t, C> {
                self.$($norm).+.output
            }
            fn logits(&self) -> Site<'t, C, (Batch, Seq, Vocab)> {
                self.lm_head.output
            }
        }
        impl<'t, C: Signature> CausalBlock<'t, C> for $arch::$block<'t, C> {
            type Attention = $arch::Attention<'t, C>;
            fn resid_pre(&self) -> Residual<'t, C> {
                self.input
            }
            fn resid_mid(&self) -> Residual<'t, C> {
                self.resid_mid
            }
            fn resid_post(&self) -> Residual<'t, C> {
                self.output
            }
            fn attn(&self) -> Self::Attention {
                self.$attn
            }
            fn attn_out(&self) -> Residual<'t, C> {
                self.$attn.output
            }
            fn mlp_out(&self) -> Residual<'t, C> {
                self.mlp.output
            }
            fn mlp_pre(&self) -> Site<'t, C, (Batch, Seq, Mlp)> {
                self.mlp.$pre.output
            }
            fn mlp_post(&self) -> Site<'t, C, (Batch, Seq, Mlp)> {
                self.mlp.$down.input
            }
        }
        impl<'t, C: Signature> CausalAttention<'t, C> for $arch::Attention<'t, C> {
            fn scores(&self) -> Site<'t, C, (Batch, Heads, Query, Key)> {
                self.scores
            }
            fn pattern(&self) -> Site<'t, C, (Batch, Heads, Query, Key)> {
                self.pattern
            }
            fn q(&self) -> Site<'t, C, (Batch, Heads, Seq, HeadDim)> {
                self.q
            }
            fn z(&self) -> Site<'t, C, (Batch, Heads, Seq, HeadDim)> {
                self.z
            }
        }
    };
}
causal!(llama: Block, layers layers, embed embed_tokens.output, norm norm, attn self_attn, neurons gate_proj down_proj);
causal!(gpt2: Block, layers transformer.h, embed transformer.embed, norm transformer.ln_f, attn attn, neurons c_fc c_proj);
