//! The parts that every transformer is made of.

mod attention;
mod batch;
mod embedding;
mod gated_mlp;
mod heads;
mod linear;
mod norm;
mod rotary;
mod soft_cap;

pub use crate::config::Scaling;
pub use attention::{AttentionTaps, ScaledDotProduct};
pub use batch::{all_positions, positions};
pub use embedding::{Embedding, EmbeddingOptions, EmbeddingSites};
pub use gated_mlp::{Activation, GatedMlp, GatedMlpOptions, GatedMlpSites};
pub use heads::{merge_heads, split_heads};
pub use linear::{Linear, LinearOptions, LinearSites, Map, fused_linear, queries_keys_values};
pub use nnsight_kernels::{Matrix, WeightFormat};
pub use norm::{HeadNorm, HeadNormSites, LayerNorm, LayerNormOptions, LayerNormSites, RmsNorm, RmsNormOptions, RmsNormSites};
pub use rotary::{Rope, Rotary};
pub use soft_cap::{SoftCap, SoftCapOptions, SoftCapSites};

/// The layers as an architecture has them, which has no signature of its own.
pub(crate) mod plain {
    use nnsight_core::types::Dynamic;
    use nnsight_lm::Hidden;

    pub type Embedding<E, O> = super::Embedding<Dynamic, E, O>;
    pub type LayerNorm = super::LayerNorm<Dynamic>;
    pub type Linear<I, O> = super::Linear<Dynamic, I, O>;
    pub type RmsNorm<D = Hidden> = super::RmsNorm<Dynamic, D>;
    pub type SoftCap<D> = super::SoftCap<Dynamic, D>;
    pub type HeadNorm<H> = super::HeadNorm<Dynamic, H>;
}
