//! Causal attention.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::cpu::attention::{Inputs, Strided};
use crate::cpu::{self, entries, from_first};
use crate::dispatch::is_fused;
use crate::{reference, softmax, upcast_for_sums};

/// What is hidden from the queries of a causal attention. The mask itself is only computed if it is added to scores.
pub enum Mask<F> {
    /// Later positions, and nothing else.
    Causal(F),
    /// More than those.
    Padded(F),
}

/// What each head gathers: `softmax(q k^T / sqrt(HeadDim) + mask) v`, in one pass on the CPU. The mask hides later positions at least; if it is
/// `None`, no position is hidden by it.
///
/// # Shapes
/// `q`: `(Batch, Heads, Query, HeadDim)`; `k`, `v`: `(Batch, KvHeads, Key, HeadDim)`, of which the last `Query` are those of the queries; `mask`:
/// `(Batch or 1, 1, Query, Key)`; the result: `(Batch, Heads, Query, HeadDim)`, in the type of `q`.
///
/// # Errors
/// If the shapes do not fit, or the mask fails.
pub fn attention<E, F>([q, k, v]: [&Tensor; 3], mask: Mask<F>) -> std::result::Result<Tensor, E>
where
    E: From<candle_core::Error>,
    F: FnOnce() -> std::result::Result<Option<Tensor>, E>,
{
    let (dtype, [q, k, v]) = (q.dtype(), &upcast_for_sums([q, k, v])?);
    let gathered = match (is_fused(&[q, k, v]), mask) {
        (true, Mask::Causal(_)) => fused(q, k, v, None)?,
        (true, Mask::Padded(mask)) => fused(q, k, v, mask()?.as_ref())?,
        (false, Mask::Causal(mask) | Mask::Padded(mask)) => in_steps(q, k, v, mask()?.as_ref())?,
    };
    Ok(gathered.to_dtype(dtype)?)
}

/// [`reference::attention`], with the softmax fused if no gradient is asked for.
fn in_steps(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let mask = mask.map(|mask| mask.to_dtype(q.dtype())).transpose()?;
    let pattern = softmax(&reference::scores(q, k, mask.as_ref())?)?;
    reference::attend(&pattern.to_dtype(v.dtype())?, v)
}

/// Nothing as large as the scores of all positions is ever written down. The result is a view of a tensor `(Batch, Seq, Heads, HeadDim)`.
fn fused(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (rows, _, width, _) = q.dims4()?;
    let keys = k.dim(2)?;
    let mask = mask.map(|mask| mask.to_dtype(q.dtype())?.broadcast_as((rows, 1, width, keys))?.contiguous()).transpose()?;
    let inner = |x: &Tensor| if x.stride()[3] == 1 { Ok(x.clone()) } else { x.contiguous() };
    inner(q)?.apply_op3_no_bwd(&inner(k)?, &inner(v)?, &CausalAttention { mask })?.transpose(1, 2)
}

/// The innermost stride of all three is 1.
struct CausalAttention {
    /// `(Batch, 1, Query, Key)`, contiguous.
    mask: Option<Tensor>,
}

impl CustomOp3 for CausalAttention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, heads, width, size) = q_layout.shape().dims4()?;
        let (kv_rows, kv_heads, keys, kv_size) = k_layout.shape().dims4()?;
        if k_layout.dims() != v_layout.dims() || kv_size != size || kv_rows != rows || kv_heads == 0 || heads % kv_heads != 0 || keys < width {
            bail!("attention: shapes {:?}, {:?} and {:?} do not fit", q_layout.dims(), k_layout.dims(), v_layout.dims());
        }
        let mask = self.mask.as_ref().map(|mask| mask.storage_and_layout());
        let mask = mask.as_ref().map(|(storage, layout)| entries(storage, layout)).transpose()?;
        let inputs = Inputs {
            q: Strided { entries: from_first(q, q_layout)?, strides: q_layout.stride() },
            k: Strided { entries: from_first(k, k_layout)?, strides: k_layout.stride() },
            v: Strided { entries: from_first(v, v_layout)?, strides: v_layout.stride() },
            mask,
            rows,
            kv_heads,
            heads: heads / kv_heads,
            width,
            keys,
            size,
        };
        Ok((CpuStorage::F32(cpu::attention::attention(&inputs)), Shape::from((rows, width, heads, size))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::difference;
    use candle_core::Device;

    fn random(shape: (usize, usize, usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap().transpose(1, 2).unwrap()
    }

    /// What hides later positions, and those before `lengths` on the left, of which each looks at itself.
    fn mask(lengths: &[usize], width: usize) -> Tensor {
        let seen = |length: usize, query: usize, key: usize| key == query || key < query && key >= width - length && query >= width - length;
        let rows = lengths.iter().flat_map(|&length| (0..width * width).map(move |at| (length, at / width, at % width)));
        let entries = rows.map(|(length, query, key)| if seen(length, query, key) { 0f32 } else { f32::MIN }).collect::<Vec<_>>();
        Tensor::from_vec(entries, (lengths.len(), 1, width, width), &Device::Cpu).unwrap()
    }

    fn found(qkv: [&Tensor; 3], padding: Option<Tensor>) -> Result<Tensor> {
        match padding {
            None => attention(qkv, Mask::Causal(|| -> Result<_> { bail!("the fused kernel needs no mask") })),
            Some(mask) => attention(qkv, Mask::Padded(|| Ok(Some(mask)))),
        }
    }

    #[test]
    fn the_same_as_in_steps() {
        for (lengths, heads, kv_heads, size) in [(vec![1], 2, 2, 8), (vec![7], 9, 3, 64), (vec![40, 3], 4, 2, 16), (vec![100], 2, 1, 33)] {
            let (rows, width) = (lengths.len(), lengths[0]);
            let q = random((rows, width, heads, size));
            let (k, v) = (random((rows, width, kv_heads, size)), random((rows, width, kv_heads, size)));
            let mask = mask(&lengths, width);
            let expected = reference::attention(&q, &k, &v, Some(&mask)).unwrap();
            let found = found([&q, &k, &v], Some(mask).filter(|_| rows > 1)).unwrap();
            assert!(difference(&found, &expected) < 2e-6, "{lengths:?}: {}", difference(&found, &expected));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let q = random((1, 3, 2, 8));
        assert!(found([&q, &random((1, 2, 2, 8)), &random((1, 2, 2, 8))], None).is_err());
        assert!(found([&q, &random((1, 3, 2, 8)), &random((1, 3, 2, 4))], None).is_err());
    }
}
