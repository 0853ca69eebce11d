//! Scaled dot-product attention in its steps, so that each of them can be a site.

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Tap};
use nnsight_kernels::reference::{attend, scores};
use nnsight_kernels::{self as kernels, Mask, is_half, largest, softmax, upcast_for_sums};
use nnsight_lm::KvCache;

use super::batch;
use super::soft_cap::capped;

/// The sites of an attention between its inputs and what the heads gather.
#[derive(Clone, Copy, Debug)]
pub struct AttentionTaps {
    /// Before the softmax.
    pub scores: Tap,
    /// After it.
    pub pattern: Tap,
}

/// What an attention computes of queries, keys and values: `softmax(scale * q k^T + mask) v`.
#[derive(Clone, Copy, Debug)]
pub struct ScaledDotProduct {
    /// By what scores are multiplied: `1 / sqrt(HeadDim)`, if nothing else is said.
    pub scale: Option<f64>,
    /// Scores are kept below this: `cap * tanh(scores / cap)` (Gemma Team 2024).
    pub soft_cap: Option<f64>,
    /// How many positions are seen, the query's own included, if not all before it (Beltagy et al. 2020).
    pub window: Option<usize>,
    /// Whether later positions are hidden. If not, a `window` is none, and nothing is kept for later passes: there are none.
    pub is_causal: bool,
}

impl ScaledDotProduct {
    /// That of Vaswani et al. (2017), under a causal mask.
    pub const CAUSAL: ScaledDotProduct = ScaledDotProduct { scale: None, soft_cap: None, window: None, is_causal: true };
    /// The same of positions that see each other in both directions.
    pub const BIDIRECTIONAL: ScaledDotProduct = ScaledDotProduct { is_causal: false, ..ScaledDotProduct::CAUSAL };

    /// What is added to the scores, as the value `tap` of the attention, where somebody uses that. It is then not known to be the batch's own.
    ///
    /// # Shapes
    /// `(Batch, 1, Query, Key)`; as a site it is `(Batch, Query, Key)`.
    ///
    /// # Errors
    /// What an intervention fails with.
    pub fn mask(&self, cx: &mut Cx, tap: Tap, dtype: DType) -> Result<Option<Tensor>> {
        match cx.wants(&[tap]) {
            false => Ok(None),
            true => {
                let mask = match self.is_causal {
                    true => batch::whole_mask(cx, self.window, dtype)?,
                    false => batch::whole_padding_mask(cx, dtype)?,
                };
                Ok(Some(cx.tap(tap, mask)?.unsqueeze(1)?))
            }
        }
    }

    /// What each head gathers of these positions and earlier ones, or of all if the attention is bidirectional: in one pass if nobody uses the scores or the pattern. Writing to the scores does not
    /// unmask: if the mask hides a position, its score is the lowest finite number of its type again.
    ///
    /// # Shapes
    /// `q`: `(Batch, Heads, Seq, HeadDim)`; `k`, `v`: `(Batch, KvHeads, Seq, HeadDim)`; `mask`: what [`ScaledDotProduct::mask`] returned; the result:
    /// `(Batch, Heads, Seq, HeadDim)`, in the type of `q`. Keys and values are held in the model's type `dtype`.
    ///
    /// # Errors
    /// What an intervention fails with.
    pub fn attend(&self, cx: &mut Cx, taps: AttentionTaps, [q, k, v]: [&Tensor; 3], mask: Option<Tensor>, dtype: DType) -> Result<Tensor> {
        // In the model's type whether they are kept for later or not.
        let (k, v) = (k.to_dtype(dtype)?, v.to_dtype(dtype)?);
        let (k, v) = match self.is_causal {
            true => {
                let (k, v) = KvCache::extend(cx, k, v)?;
                (cx.looked_at(&k)?, cx.looked_at(&v)?)
            }
            false => (k, v),
        };
        let (k, v) = (&k, &v);
        let q = &self.scaled(q)?;
        let sizes = (q.dim(2)?, k.dim(2)?);
        // The one pass knows causal masks only.
        if self.is_causal && mask.is_none() && self.soft_cap.is_none() && !cx.wants(&[taps.scores, taps.pattern]) {
            let own = || batch::mask(cx, self.window, sizes, dtype);
            let mask = if batch::sees_all_before(cx, self.window, sizes.1)? { Mask::Causal(own) } else { Mask::Padded(own) };
            return kernels::attention([q, k, v], mask);
        }
        let (given, [q, k, v]) = (q.dtype(), &upcast_for_sums([q, k, v])?);
        let mask = match mask {
            Some(mask) => Some(mask),
            None if self.is_causal => batch::mask(cx, self.window, sizes, dtype)?,
            None => batch::padding_mask(cx, dtype)?,
        };
        let wide_mask = mask.as_ref().map(|mask| mask.to_dtype(q.dtype())).transpose()?;
        let mut scores = self.scores(q, k, wide_mask.as_ref())?;
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

    /// Queries that `1 / sqrt(HeadDim)` makes those of another scale.
    fn scaled(&self, q: &Tensor) -> Result<Tensor> {
        let usual = 1.0 / (q.dim(3)? as f64).sqrt();
        match self.scale {
            Some(scale) if scale != usual => Ok((q * (scale / usual))?),
            _ => Ok(q.clone()),
        }
    }

    fn scores(&self, q: &Tensor, k: &Tensor, mask: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let Some(cap) = self.soft_cap else { return scores(q, k, mask) };
        let capped = capped(&scores(q, k, None)?, cap)?;
        mask.map_or(Ok(capped.clone()), |mask| capped.broadcast_add(mask))
    }
}

/// At most this added to a score hides its position: the number that masks were made of before they were made of the lowest.
const HIDES: f64 = -1e4;

/// Scores with the lowest finite number of their type where the mask hides a position.
fn masked(scores: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    let lowest = Tensor::new(-largest(scores.dtype()), scores.device())?.to_dtype(scores.dtype())?;
    mask.le(HIDES)?.broadcast_as(scores.shape())?.where_cond(&lowest.broadcast_as(scores.shape())?, scores)
}
