//! The heads of an attention, side by side and apart.

use candle_core::Tensor;
use nnsight_core::Result;

/// `(Batch, Seq, Heads * HeadDim)` as `(Batch, Heads, Seq, HeadDim)`.
///
/// # Errors
/// Where the size is not a multiple of `heads`.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, width, hidden) = x.dims3()?;
    Ok(x.reshape((batch, width, heads, hidden / heads))?.transpose(1, 2)?)
}

/// `(Batch, Heads, Seq, HeadDim)` as `(Batch, Seq, Heads * HeadDim)`.
///
/// # Errors
/// Where a computation fails.
pub fn merge_heads(z: &Tensor) -> Result<Tensor> {
    Ok(z.transpose(1, 2)?.flatten_from(2)?)
}
