//! The parts that every transformer is made of.

mod attention;
mod embedding;
mod gate;
mod kernel;
mod linear;
mod matrix;
mod norm;
mod panels;
mod product;
mod rotary;

pub use attention::{attend, mask, merge_heads, scores, split_heads};
pub use embedding::{Embedding, EmbeddingSites};
pub use gate::silu_mul;
pub use linear::{Linear, LinearSites, Map, together};
pub use matrix::{Matrix, WeightFormat};
pub use norm::{LayerNorm, LayerNormSites, RmsNorm, RmsNormSites};
pub use rotary::{Rotary, Scaling};
