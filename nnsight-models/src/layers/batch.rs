//! What layers know of the batch that they run on: positions, and which of them may be looked at.

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Tap};
use nnsight_kernels::largest;
use nnsight_lm::TokenBatch;

/// The positions of a pass, as the value `tap` of the attention where somebody uses that; none where they are just `0..`.
///
/// # Shapes
/// `(Batch, Seq)`
///
/// # Errors
/// What an intervention fails with.
pub fn positions(cx: &mut Cx, tap: Tap) -> Result<Option<Tensor>> {
    match cx.wants(&[tap]) || !cx.wants_all_positions() {
        false => Ok(cx.batch::<TokenBatch>()?.positions().cloned()),
        true => {
            let positions = cx.batch::<TokenBatch>()?.whole_positions()?;
            Ok(Some(cx.tap(tap, positions)?))
        }
    }
}

/// The positions of a pass.
///
/// # Shapes
/// `(Batch, Seq)`
///
/// # Errors
/// If the device fails.
pub fn all_positions(cx: &Cx) -> Result<Tensor> {
    cx.batch::<TokenBatch>()?.whole_positions()
}

/// Whether every query sees all positions before it.
pub(super) fn sees_all_before(cx: &Cx, window: Option<usize>, keys: usize) -> Result<bool> {
    Ok(cx.batch::<TokenBatch>()?.is_causal() && window.is_none_or(|window| keys <= window))
}

/// What is added to the scores of some queries, the last but those after all of the keys: the lowest number where they do not look.
///
/// # Shapes
/// `(Batch or 1, 1, Query, Key)`
pub(super) fn mask(cx: &Cx, window: Option<usize>, (queries, keys): (usize, usize), dtype: DType) -> Result<Option<Tensor>> {
    let batch = cx.batch::<TokenBatch>()?;
    let of_batch = batch.mask(dtype)?.map(|mask| own_part(mask, queries, keys)).transpose()?;
    let window = window.filter(|&window| keys > window);
    let of_window = window.map(|window| outside(window, (queries, keys), dtype, batch.tokens().device())).transpose()?;
    Ok(match (of_batch, of_window) {
        (Some(batch), Some(window)) => Some(batch.broadcast_minimum(&window)?),
        (batch, window) => batch.or(window),
    })
}

/// [`mask`] of all positions of a pass, with a row for every prompt.
///
/// # Shapes
/// `(Batch, Query, Key)`
pub(super) fn whole_mask(cx: &Cx, window: Option<usize>, dtype: DType) -> Result<Tensor> {
    let mask = cx.batch::<TokenBatch>()?.whole_mask(dtype)?;
    let (_, queries, keys) = mask.dims3()?;
    match window.filter(|&window| keys > window) {
        None => Ok(mask),
        Some(window) => Ok(mask.broadcast_minimum(&outside(window, (queries, keys), dtype, mask.device())?.squeeze(1)?)?),
    }
}

/// What is added to the scores of positions that see each other in both directions: the lowest number at padding and hidden tokens.
///
/// # Shapes
/// `(Batch, 1, Query, Key)`
pub(super) fn padding_mask(cx: &Cx, dtype: DType) -> Result<Option<Tensor>> {
    Ok(cx.batch::<TokenBatch>()?.padding_mask(dtype)?.cloned())
}

/// [`padding_mask`], also where nothing is hidden.
///
/// # Shapes
/// `(Batch, Query, Key)`
pub(super) fn whole_padding_mask(cx: &Cx, dtype: DType) -> Result<Tensor> {
    match padding_mask(cx, dtype)? {
        Some(mask) => Ok(mask.squeeze(1)?),
        None => {
            let (rows, width) = cx.batch::<TokenBatch>()?.tokens().dims2()?;
            Ok(Tensor::zeros((rows, width, width), dtype, cx.batch::<TokenBatch>()?.tokens().device())?)
        }
    }
}

/// Of a mask what is about the keys, which are the first positions, and the queries, which are the last of those.
fn own_part(mask: &Tensor, queries: usize, keys: usize) -> candle_core::Result<Tensor> {
    let behind = mask.dim(3)? - keys;
    mask.narrow(2, mask.dim(2)? - behind - queries, queries)?.narrow(3, 0, keys)
}

/// The lowest number where a key is not among the last `window` of its query, which sees itself.
///
/// # Shapes
/// `(1, 1, Query, Key)`
fn outside(window: usize, (queries, keys): (usize, usize), dtype: DType, device: &candle_core::Device) -> candle_core::Result<Tensor> {
    let lowest = -largest(dtype) as f32;
    let mut mask = Vec::with_capacity(queries * keys);
    for query in keys - queries..keys {
        mask.extend((0..keys).map(|key| if key + window > query { 0f32 } else { lowest }));
    }
    Tensor::from_vec(mask, (1, 1, queries, keys), device)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_query_and_those_just_before_it() {
        let mask = outside(2, (3, 5), DType::F32, &candle_core::Device::Cpu).unwrap();
        let sees = mask.squeeze(0).unwrap().squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        let sees = sees.iter().map(|row| row.iter().map(|&entry| entry == 0.0).collect::<Vec<_>>()).collect::<Vec<_>>();
        // Later positions are hidden by the causal mask.
        assert_eq!(sees, [[false, true, true, true, true], [false, false, true, true, true], [false, false, false, true, true]]);
    }
}
