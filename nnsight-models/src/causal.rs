//! The same names on every architecture, so that one function serves all of them.

use nnsight_core::trace::{Index, Layers, Site};
use nnsight_core::types::{Batch, DimName, Signature};
use nnsight_lm::{HeadDim, Heads, Hidden, Key, Mlp, Query, Seq, Vocab};

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
    /// These names, and which paths have them.
    const PATHS: &'static [(&'static str, &'static str)];
    /// All of them at once. `#[common(CausalLm<Block> { … })]` writes it.
    fn names(&self) -> CausalLmNames<'t, C, Self>;
    /// The layers.
    fn layers(&self) -> Layers<'t, C, Self::Block> {
        self.names().layers
    }
    /// The residual stream before the first layer.
    fn embed(&self) -> Residual<'t, C> {
        self.names().embed
    }
    /// The residual stream after the last norm.
    fn final_norm(&self) -> Residual<'t, C> {
        self.names().final_norm
    }
    /// The logits.
    fn logits(&self) -> Site<'t, C, (Batch, Seq, Vocab)> {
        self.names().logits
    }
    /// A layer by a number known when the trace is built; negative ones count from the end.
    #[track_caller]
    fn block(&self, layer: impl Index) -> Self::Block {
        *self.layers().layer(layer)
    }
}

/// What the methods of [`CausalLm`] return.
pub struct CausalLmNames<'t, C: Signature, M: CausalLm<'t, C>> {
    /// See [`CausalLm::layers`].
    pub layers: Layers<'t, C, M::Block>,
    /// See [`CausalLm::embed`].
    pub embed: Residual<'t, C>,
    /// See [`CausalLm::final_norm`].
    pub final_norm: Residual<'t, C>,
    /// See [`CausalLm::logits`].
    pub logits: Site<'t, C, (Batch, Seq, Vocab)>,
}

/// The sites of one layer.
pub trait CausalBlock<'t, C: Signature>: Copy + 't {
    /// The attention.
    type Attention: CausalAttention<'t, C>;
    /// These names, and which paths have them.
    const PATHS: &'static [(&'static str, &'static str)];
    /// All of them at once. `#[common(CausalBlock<Attention> { … })]` writes it.
    fn names(&self) -> CausalBlockNames<'t, C, Self>;
    /// The residual stream before the layer.
    fn resid_pre(&self) -> Residual<'t, C> {
        self.names().resid_pre
    }
    /// The residual stream between the attention and the MLP.
    fn resid_mid(&self) -> Residual<'t, C> {
        self.names().resid_mid
    }
    /// The residual stream after the layer.
    fn resid_post(&self) -> Residual<'t, C> {
        self.names().resid_post
    }
    /// The attention.
    fn attn(&self) -> Self::Attention {
        self.names().attn
    }
    /// What the attention adds to the residual stream.
    fn attn_out(&self) -> Residual<'t, C> {
        self.names().attn_out
    }
    /// What the MLP adds to the residual stream.
    fn mlp_out(&self) -> Residual<'t, C> {
        self.names().mlp_out
    }
    /// The neurons of the MLP before their activation: of a gated MLP, what goes through the gate's activation.
    fn mlp_pre(&self) -> Site<'t, C, (Batch, Seq, Mlp)> {
        self.names().mlp_pre
    }
    /// What the neurons of the MLP give to its last matrix.
    fn mlp_post(&self) -> Site<'t, C, (Batch, Seq, Mlp)> {
        self.names().mlp_post
    }
}

/// What the methods of [`CausalBlock`] return.
pub struct CausalBlockNames<'t, C: Signature, B: CausalBlock<'t, C>> {
    /// See [`CausalBlock::resid_pre`].
    pub resid_pre: Residual<'t, C>,
    /// See [`CausalBlock::resid_mid`].
    pub resid_mid: Residual<'t, C>,
    /// See [`CausalBlock::resid_post`].
    pub resid_post: Residual<'t, C>,
    /// See [`CausalBlock::attn`].
    pub attn: B::Attention,
    /// See [`CausalBlock::attn_out`].
    pub attn_out: Residual<'t, C>,
    /// See [`CausalBlock::mlp_out`].
    pub mlp_out: Residual<'t, C>,
    /// See [`CausalBlock::mlp_pre`].
    pub mlp_pre: Site<'t, C, (Batch, Seq, Mlp)>,
    /// See [`CausalBlock::mlp_post`].
    pub mlp_post: Site<'t, C, (Batch, Seq, Mlp)>,
}

/// The sites of an attention.
pub trait CausalAttention<'t, C: Signature>: Copy + 't {
    /// The axis of the heads of keys and values.
    type KvHeads: DimName;
    /// These names, and which paths have them.
    const PATHS: &'static [(&'static str, &'static str)];
    /// All of them at once. `#[common(CausalAttention<KvHeads> { … })]` writes it.
    fn names(&self) -> CausalAttentionNames<'t, C, Self>;
    /// Before the softmax, scaled and masked.
    fn scores(&self) -> Site<'t, C, (Batch, Heads, Query, Key)> {
        self.names().scores
    }
    /// After the softmax.
    fn pattern(&self) -> Site<'t, C, (Batch, Heads, Query, Key)> {
        self.names().pattern
    }
    /// The queries by heads, before any rotation.
    fn q(&self) -> Site<'t, C, (Batch, Heads, Seq, HeadDim)> {
        self.names().q
    }
    /// The keys by heads, before any rotation.
    fn k(&self) -> Site<'t, C, (Batch, Self::KvHeads, Seq, HeadDim)> {
        self.names().k
    }
    /// The values by heads.
    fn v(&self) -> Site<'t, C, (Batch, Self::KvHeads, Seq, HeadDim)> {
        self.names().v
    }
    /// What each head gathered.
    fn z(&self) -> Site<'t, C, (Batch, Heads, Seq, HeadDim)> {
        self.names().z
    }
}

/// What the methods of [`CausalAttention`] return.
pub struct CausalAttentionNames<'t, C: Signature, A: CausalAttention<'t, C>> {
    /// See [`CausalAttention::scores`].
    pub scores: Site<'t, C, (Batch, Heads, Query, Key)>,
    /// See [`CausalAttention::pattern`].
    pub pattern: Site<'t, C, (Batch, Heads, Query, Key)>,
    /// See [`CausalAttention::q`].
    pub q: Site<'t, C, (Batch, Heads, Seq, HeadDim)>,
    /// See [`CausalAttention::k`].
    pub k: Site<'t, C, (Batch, A::KvHeads, Seq, HeadDim)>,
    /// See [`CausalAttention::v`].
    pub v: Site<'t, C, (Batch, A::KvHeads, Seq, HeadDim)>,
    /// See [`CausalAttention::z`].
    pub z: Site<'t, C, (Batch, Heads, Seq, HeadDim)>,
}
