//! The parts that every transformer is made of.

mod attention;
mod cpu;
mod elementwise;
mod embedding;
mod linear;
mod matrix;
mod norm;
mod product;
mod rotary;

pub use attention::{Between, attention, mask, merge_heads, split_heads, without_last};
pub use elementwise::{add, gelu, mul, silu, silu_mul};
pub use embedding::{Embedding, EmbeddingSites};
pub use linear::{Linear, LinearSites, Map, together};
pub use matrix::{Matrix, WeightFormat};
pub use norm::{LayerNorm, LayerNormSites, RmsNorm, RmsNormSites};
pub use rotary::{Rotary, Scaling};
