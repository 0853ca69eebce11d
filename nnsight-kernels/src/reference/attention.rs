//! Scaled dot-product attention in its steps.

use candle_core::{D, Result, Tensor};

use super::softmax;

/// The attention scores before the softmax: `q k^T / sqrt(HeadDim) + mask`.
///
/// # Shapes
/// `q`: `(Batch, Heads, Query, HeadDim)`; `k`: `(Batch, KvHeads, Key, HeadDim)`; `mask` broadcasts to the result: `(Batch, Heads, Query, Key)`.
///
/// # Errors
/// If the shapes do not fit.
pub fn scores(q: &Tensor, k: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (rows, heads, width, head_dim) = q.dims4()?;
    let scaled = grouped(q, k.dim(1)?)?.affine(1.0 / (head_dim as f64).sqrt(), 0.0)?;
    let scores = scaled.matmul(&k.contiguous()?.t()?)?.reshape((rows, heads, width, k.dim(2)?))?;
    match mask {
        None => Ok(scores),
        Some(mask) => scores.broadcast_add(mask),
    }
}

/// What each head gathers: `pattern v`.
///
/// # Shapes
/// `pattern`: `(Batch, Heads, Query, Key)`; `v`: `(Batch, KvHeads, Key, HeadDim)`; the result: `(Batch, Heads, Query, HeadDim)`.
///
/// # Errors
/// If the shapes do not fit.
pub fn attend(pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (rows, heads, width, _) = pattern.dims4()?;
    let gathered = grouped(pattern, v.dim(1)?)?.matmul(&v.contiguous()?)?;
    gathered.reshape((rows, heads, width, v.dim(D::Minus1)?))
}

/// [`scores`], their [`softmax()`], and [`attend`].
///
/// # Shapes
/// As those; the result: `(Batch, Heads, Query, HeadDim)`.
///
/// # Errors
/// If the shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let mask = mask.map(|mask| mask.to_dtype(q.dtype())).transpose()?;
    let pattern = softmax(&scores(q, k, mask.as_ref())?)?;
    attend(&pattern.to_dtype(v.dtype())?, v)
}

/// The heads that share a key and value head as one, so that these need not be repeated.
fn grouped(x: &Tensor, kv_heads: usize) -> Result<Tensor> {
    let (rows, heads, width, last) = x.dims4()?;
    match heads == kv_heads {
        true => x.contiguous(),
        false => x.contiguous()?.reshape((rows, kv_heads, heads / kv_heads * width, last)),
    }
}
