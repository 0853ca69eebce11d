//! The kernels of nnsight: everything that a fast forward pass and its interventions need beside candle. They know no graph and no model.
//!
//! An operation is a function on tensors. If its fused kernel takes the tensors (today: `f32` on the CPU, no gradient asked for), the function
//! applies a candle `CustomOp` or `InplaceOp`, whose `cpu_fwd` calls a loop of the private module `cpu`. All other tensors go through the plain
//! expression of the same name in [`mod@reference`], which runs on every device and has a gradient. `dispatch.rs` is the one place that asks for
//! a device: a CUDA kernel is the `cuda_fwd` of its operation, and a line there.
//!
//! | operation | function | fused | gradient |
//! |---|---|---|---|
//! | slice assignment | [`patch()`], [`patch_owned`] | CPU, all types | that of the reference |
//! | element-wise operations in one pass | [`FusedElementwise`] | CPU, `f32` | none: tracked tensors are not fused |
//! | residual sum, gated activation | [`add`], [`silu_mul`] | CPU, `f32`, in place if owned | that of the reference |
//! | norms | [`rms_norm`], [`layer_norm`] | CPU, `f32`; candle's | that of the reference |
//! | rotary embedding | [`rotate`] | CPU, `f32`; candle's | that of the reference |
//! | softmax | [`softmax()`] | candle's | that of the reference |
//! | causal attention | [`attention()`] | CPU, `f32` | that of the reference |
//! | product with weights | [`matmul()`], [`fused_matmul`] | CPU, `f32`, weights in panels | for the input, by the same panels |
//!
//! All `unsafe` of the workspace is in this crate.

#![warn(missing_docs)]

mod activation;
mod attention;
mod cpu;
mod dispatch;
mod elementwise;
mod extent;
mod half_precision;
mod linear;
mod matmul;
mod matrix;
mod norm;
mod operator;
mod owned;
mod pairwise;
mod patch;
mod pool;
pub mod reference;
mod rotary;
mod softmax;
mod sum;
#[cfg(test)]
mod tests;

pub use activation::{gelu, silu};
pub use attention::{Mask, attention};
pub use dispatch::accumulates_in_f32;
pub use elementwise::{FusedElementwise, Operand};
pub use extent::{Extent, Span, part, part_dims};
pub use half_precision::{is_finite, is_half, largest, saturate, upcast, upcast_for_sums};
pub use linear::{add_bias, fused_matmul};
pub use matmul::matmul;
pub use matrix::{Matrix, WeightFormat};
pub use norm::{layer_norm, rms_norm};
pub use operator::{Binary, Unary};
pub use owned::MaybeOwned;
pub use pairwise::{add, mul, silu_mul};
pub use patch::{patch, patch_owned};
pub use pool::with_hot_pool;
pub use rotary::rotate;
pub use softmax::softmax;
pub use sum::sum_in_portions;
