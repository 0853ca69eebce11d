//! Scaled dot-product attention in its steps, so that each of them can be a site.

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Tap};
use nnsight_kernels::reference::{attend, scores};
use nnsight_kernels::{self as kernels, Mask, is_half, largest, softmax, upcast_for_sums};
use nnsight_lm::TokenBatch;

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

/// The sites of an attention between its inputs and what the heads gather.
#[derive(Clone, Copy, Debug)]
pub struct AttentionTaps {
    /// Before the softmax.
    pub scores: Tap,
    /// After it.
    pub pattern: Tap,
}

/// What each head gathers: in one pass if nobody uses the scores or the pattern. Writing to the scores does not unmask: if the mask hides a position,
/// its score is the lowest finite number of its type again.
///
/// # Shapes
/// `q`: `(Batch, Heads, Seq, HeadDim)`; `k`, `v`: `(Batch, KvHeads, Key, HeadDim)`, in the model's type; `mask`: what [`mask`] gave; the result:
/// `(Batch, Heads, Seq, HeadDim)`, in the type of `q`.
///
/// # Errors
/// What an intervention fails with.
pub fn attention(cx: &mut Cx, taps: AttentionTaps, [q, k, v]: [&Tensor; 3], mask: Option<Tensor>) -> Result<Tensor> {
    let (k, v) = (&cx.looked_at(k)?, &cx.looked_at(v)?);
    if mask.is_none() && !cx.wants(&[taps.scores, taps.pattern]) {
        let own = || -> Result<Option<Tensor>> { Ok(cx.batch::<TokenBatch>()?.mask(v.dtype())?.map(|mask| own_part(mask, q, k)).transpose()?) };
        let mask = if cx.batch::<TokenBatch>()?.is_causal() { Mask::Causal(own) } else { Mask::Padded(own) };
        return kernels::attention([q, k, v], mask);
    }
    let (given, dtype, [q, k, v]) = (q.dtype(), v.dtype(), &upcast_for_sums([q, k, v])?);
    let mask = match mask {
        Some(mask) => Some(mask),
        None => cx.batch::<TokenBatch>()?.mask(dtype)?.map(|mask| own_part(mask, q, k)).transpose()?,
    };
    let mut scores = scores(q, k, mask.as_ref().map(|mask| mask.to_dtype(q.dtype())).transpose()?.as_ref())?;
    if cx.wants(&[taps.scores]) {
        // As they are shown, so that the pattern is theirs.
        let shown = if is_half(dtype) { scores.maximum(-largest(dtype))?.to_dtype(dtype)? } else { scores };
        scores = cx.tap(taps.scores, shown.clone())?;
        if let Some(mask) = mask.filter(|_| scores.id() != shown.id()) {
            scores = masked(&scores, &mask)?;
        }
    }
    let mut pattern = softmax(&scores)?;
    if cx.wants(&[taps.pattern]) {
        pattern = cx.tap(taps.pattern, pattern.to_dtype(dtype)?)?;
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
            let mask = cx.batch::<TokenBatch>()?.whole_mask(dtype)?;
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
