//! A model's sites by the names of TransformerLens, typed.

use nnsight_core::trace::{Index, Site};
use nnsight_core::types::{Batch, Signature};
use nnsight_lm::{HeadDim, Heads, Hidden, Key, Mlp, Query, Seq, Vocab};

use crate::causal::{CausalAttention, CausalBlock, CausalLm};

macro_rules! hooks {
    ($($(#[$meta:meta])* $name:ident = $own:ident -> $shape:ty;)+) => {$(
        $(#[$meta])*
        fn $name(&self) -> Site<'t, C, $shape> {
            self.$own()
        }
    )+};
}

/// A model's sites by the names of TransformerLens: `model.blocks(5).hook_resid_post()`.
pub trait HookedTransformer<'t, C: Signature>: CausalLm<'t, C> {
    /// `blocks.5`; negative numbers count from the end.
    #[track_caller]
    fn blocks(&self, layer: impl Index) -> Self::Block {
        self.block(layer)
    }
    hooks! {
        /// `hook_embed`. On models with a position embedding, that is part of it here.
        hook_embed = embed -> (Batch, Seq, Hidden);
        /// `ln_final.hook_normalized`, with the norm's weight applied.
        hook_ln_final = final_norm -> (Batch, Seq, Hidden);
        /// What `unembed` returns.
        hook_logits = logits -> (Batch, Seq, Vocab);
    }
}
impl<'t, C: Signature, M: CausalLm<'t, C>> HookedTransformer<'t, C> for M {}

/// The sites of one layer by the names of TransformerLens.
pub trait HookedBlock<'t, C: Signature>: CausalBlock<'t, C> {
    hooks! {
        /// `blocks.N.hook_resid_pre`
        hook_resid_pre = resid_pre -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_resid_mid`
        hook_resid_mid = resid_mid -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_resid_post`
        hook_resid_post = resid_post -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_attn_out`
        hook_attn_out = attn_out -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_mlp_out`
        hook_mlp_out = mlp_out -> (Batch, Seq, Hidden);
        /// `blocks.N.mlp.hook_pre`
        hook_pre = mlp_pre -> (Batch, Seq, Mlp);
        /// `blocks.N.mlp.hook_post`
        hook_post = mlp_post -> (Batch, Seq, Mlp);
    }
}
impl<'t, C: Signature, B: CausalBlock<'t, C>> HookedBlock<'t, C> for B {}

/// The sites of an attention by the names of TransformerLens.
pub trait HookedAttention<'t, C: Signature>: CausalAttention<'t, C> {
    hooks! {
        /// `blocks.N.attn.hook_q`; its axes are `(Batch, Heads, Seq, HeadDim)`.
        hook_q = q -> (Batch, Heads, Seq, HeadDim);
        /// `blocks.N.attn.hook_k`; its axes are `(Batch, KvHeads, Seq, HeadDim)`.
        hook_k = k -> (Batch, Self::KvHeads, Seq, HeadDim);
        /// `blocks.N.attn.hook_v`; its axes are `(Batch, KvHeads, Seq, HeadDim)`.
        hook_v = v -> (Batch, Self::KvHeads, Seq, HeadDim);
        /// `blocks.N.attn.hook_attn_scores`
        hook_attn_scores = scores -> (Batch, Heads, Query, Key);
        /// `blocks.N.attn.hook_pattern`
        hook_pattern = pattern -> (Batch, Heads, Query, Key);
        /// `blocks.N.attn.hook_z`; its axes are `(Batch, Heads, Seq, HeadDim)`.
        hook_z = z -> (Batch, Heads, Seq, HeadDim);
    }
}
impl<'t, C: Signature, A: CausalAttention<'t, C>> HookedAttention<'t, C> for A {}
