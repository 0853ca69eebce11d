//! The parts that every transformer is made of.

mod attention;
mod embedding;
mod gate;
mod linear;
mod norm;
mod product;
mod rotary;

pub use attention::{attend, mask, merge_heads, scores, split_heads};
pub use embedding::{Embedding, EmbeddingSites};
pub use gate::silu_mul;
pub use linear::{Linear, LinearSites};
pub use norm::{LayerNorm, LayerNormSites, RmsNorm, RmsNormSites};
pub use rotary::{Rotary, Scaling};
