//! Scaled dot-product attention in its steps, so that each of them can be a site.

use candle_core::{D, DType, Tensor};
use nnsight_core::Result;
use nnsight_core::kernels::{is_half, largest, softmax, widen, widen_for_sums};
use nnsight_core::module::{Cx, Tap};

use super::cpu;

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

/// Keys or values without those of the last positions, at which no query looks.
///
/// # Shapes
/// `x`: `(Batch, KvHeads, Key, HeadDim)`
///
/// # Errors
/// Where there are not so many.
pub fn without_last(x: &Tensor, count: usize) -> Result<Tensor> {
    Ok(x.narrow(2, 0, x.dim(2)?.saturating_sub(count))?)
}

/// How much each position looks at each other, before the softmax: `q k^T / sqrt(HeadDim)`, with the lowest finite number where it may
/// not look.
///
/// # Shapes
/// `q`: `(Batch, Heads, Seq, HeadDim)`, `k`: `(Batch, KvHeads, Seq, HeadDim)`, `mask`: broadcasts to the result; the result: `(Batch, Heads, Query, Key)`.
///
/// # Errors
/// Where a computation fails.
pub fn scores(q: &Tensor, k: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (rows, heads, width, head_dim) = q.dims4()?;
    let scaled = grouped(q, k.dim(1)?)?.affine(1.0 / (head_dim as f64).sqrt(), 0.0)?;
    let scores = scaled.matmul(&k.contiguous()?.t()?)?.reshape((rows, heads, width, k.dim(2)?))?;
    match mask {
        None => Ok(scores),
        Some(mask) => Ok(scores.broadcast_add(mask)?),
    }
}

/// The values of an attention between its inputs and what the heads gather.
#[derive(Clone, Copy, Debug)]
pub struct Between {
    /// Before the softmax.
    pub scores: Tap,
    /// After it.
    pub pattern: Tap,
}

/// What each head gathers: in one pass where nobody looks at what lies between. What is written to the scores does not unmask: where the mask hides a
/// position, they are the lowest finite number of their type again.
///
/// # Shapes
/// `q`: `(Batch, Heads, Seq, HeadDim)`; `k`, `v`: `(Batch, KvHeads, Key, HeadDim)`, in the model's type; `mask`: what [`mask`] gave; the result:
/// `(Batch, Heads, Seq, HeadDim)`, in the type of `q`.
///
/// # Errors
/// What an intervention fails with.
pub fn attention(cx: &mut Cx, between: Between, [q, k, v]: [&Tensor; 3], mask: Option<Tensor>) -> Result<Tensor> {
    let (given, dtype, [q, k, v]) = (q.dtype(), v.dtype(), &widen_for_sums([q, k, v])?);
    if cpu::takes(&[q, k, v]) && mask.is_none() && !cx.wants(&[between.scores, between.pattern]) {
        let mask = if cx.batch().is_causal() { None } else { cx.batch().mask(dtype)? };
        let mask = mask.map(|mask| own_part(&widen(mask)?, q, k)).transpose()?;
        return Ok(cpu::attention(q, k, v, mask.as_ref())?.to_dtype(given)?);
    }
    let mask = match mask {
        Some(mask) => Some(mask),
        None => cx.batch().mask(dtype)?.map(|mask| own_part(mask, q, k)).transpose()?,
    };
    let mut scores = scores(q, k, mask.as_ref().map(|mask| mask.to_dtype(q.dtype())).transpose()?.as_ref())?;
    if cx.wants(&[between.scores]) {
        // As they are shown, so that the pattern is theirs.
        let shown = if is_half(dtype) { scores.maximum(-largest(dtype))?.to_dtype(dtype)? } else { scores };
        scores = cx.tap(between.scores, shown.clone())?;
        if let Some(mask) = mask.filter(|_| scores.id() != shown.id()) {
            scores = masked(&scores, &mask)?;
        }
    }
    let mut pattern = softmax(&scores)?;
    if cx.wants(&[between.pattern]) {
        pattern = cx.tap(between.pattern, pattern.to_dtype(dtype)?)?;
    }
    Ok(attend(&pattern.to_dtype(v.dtype())?, v)?.to_dtype(given)?)
}

/// At most this added to a score hides its position: the number that masks were made of before they were made of the lowest.
const HIDES: f64 = -1e4;

/// Scores with the lowest finite number of their type where the mask hides a position.
fn masked(scores: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    let lowest = Tensor::new(-largest(scores.dtype()), scores.device())?.to_dtype(scores.dtype())?;
    mask.le(HIDES)?.broadcast_as(scores.shape())?.where_cond(&lowest.broadcast_as(scores.shape())?, scores)
}

/// What is added to the scores, as the value `tap` of the attention, where somebody uses that. It is then not known to be the batch's own.
///
/// # Shapes
/// `(Batch, 1, Query, Key)`; as a site it is `(Batch, Query, Key)`.
///
/// # Errors
/// What an intervention fails with.
pub fn mask(cx: &mut Cx, tap: Tap, dtype: DType) -> Result<Option<Tensor>> {
    match cx.wants(&[tap]) {
        false => Ok(None),
        true => {
            let mask = cx.batch().whole_mask(dtype)?;
            Ok(Some(cx.tap(tap, mask)?.unsqueeze(1)?))
        }
    }
}

/// Of a mask what is about the keys, which are the first positions, and the queries, which are the last of those.
fn own_part(mask: &Tensor, q: &Tensor, k: &Tensor) -> candle_core::Result<Tensor> {
    let (queries, keys) = (q.dim(2)?, k.dim(2)?);
    let behind = mask.dim(3)? - keys;
    mask.narrow(2, mask.dim(2)? - behind - queries, queries)?.narrow(3, 0, keys)
}

/// What each head gathers: `pattern v`.
///
/// # Shapes
/// `pattern`: `(Batch, Heads, Query, Key)`, `v`: `(Batch, KvHeads, Seq, HeadDim)`; the result: `(Batch, Heads, Seq, HeadDim)`.
///
/// # Errors
/// Where a computation fails.
pub fn attend(pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (rows, heads, width, _) = pattern.dims4()?;
    let gathered = grouped(pattern, v.dim(1)?)?.matmul(&v.contiguous()?)?;
    Ok(gathered.reshape((rows, heads, width, v.dim(D::Minus1)?))?)
}

/// The heads that share a key and value head as one, so that these need not be repeated.
fn grouped(x: &Tensor, kv_heads: usize) -> candle_core::Result<Tensor> {
    let (rows, heads, width, last) = x.dims4()?;
    match heads == kv_heads {
        true => x.contiguous(),
        false => x.contiguous()?.reshape((rows, kv_heads, heads / kv_heads * width, last)),
    }
}
