//! The parts that every transformer is made of.

mod attention;
mod embedding;
mod linear;
mod norm;
mod rotary;

pub use attention::{AttentionTaps, attention, mask, merge_heads, split_heads};
pub use embedding::{Embedding, EmbeddingSites};
pub use linear::{Linear, LinearSites, Map, fused_linear, queries_keys_values};
pub use nnsight_kernels::{Matrix, WeightFormat};
pub use norm::{LayerNorm, LayerNormSites, RmsNorm, RmsNormSites};
pub use rotary::{Rotary, Scaling};

/// The layers as an architecture has them, which has no signature of its own.
pub(crate) mod plain {
    use nnsight_core::types::Dynamic;

    pub type Embedding<E, O> = super::Embedding<Dynamic, E, O>;
    pub type LayerNorm = super::LayerNorm<Dynamic>;
    pub type Linear<I, O> = super::Linear<Dynamic, I, O>;
    pub type RmsNorm = super::RmsNorm<Dynamic>;
}
