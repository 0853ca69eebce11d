//! Attention in one pass: nothing as large as the scores of all positions is ever written down.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::columns::Columns;
use super::exp::exp;
use super::product::{NOTHING, add};
use super::widen::Float;
use super::{SMALL, entries};

/// Queries that are taken together.
const QUERIES: usize = 6;

/// Tasks that a thread should have at least, so that all of them end at about the same time.
const EACH: usize = 8;

/// What each head gathers: `softmax(q k^T / sqrt(HeadDim) + mask) v`, where a position looks at itself and at what comes before it.
///
/// # Shapes
/// `q`: `(Batch, Heads, Seq, HeadDim)`; `k`, `v`: `(Batch, KvHeads, Key, HeadDim)`, of which the last `Seq` are those of the queries; `mask`:
/// `(Batch, 1, Seq, Key)`, where more is hidden than what comes later. The result: `(Batch, Heads, Seq, HeadDim)`, a view of one that lies as
/// `(Batch, Seq, Heads, HeadDim)`.
///
/// # Errors
/// Where the shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (rows, heads, width, size) = q.dims4()?;
    let (kv_rows, kv_heads, keys, kv_size) = k.dims4()?;
    let mask = mask.map(|mask| mask.broadcast_as((rows, 1, width, keys))?.contiguous()).transpose()?;
    if k.dims() != v.dims() || kv_size != size || kv_rows != rows || heads % kv_heads != 0 || keys < width {
        bail!("attention of {:?}, {:?} and {:?}", q.dims(), k.dims(), v.dims());
    }
    let inner = |x: &Tensor| if x.stride()[3] == 1 { Ok(x.clone()) } else { x.contiguous() };
    let (q, k, v) = (inner(q)?, inner(k)?, inner(v)?);
    let ((q_storage, q_layout), (k_storage, k_layout), (v_storage, v_layout)) =
        (q.storage_and_layout(), k.storage_and_layout(), v.storage_and_layout());
    let mask = mask.as_ref().map(|mask| mask.storage_and_layout());
    let mask = mask.as_ref().map(|(storage, layout)| entries(storage, layout)).transpose()?;
    let whole = Whole {
        q: Lying { entries: entries(&q_storage, q_layout)?, strides: q_layout.stride() },
        k: Lying { entries: entries(&k_storage, k_layout)?, strides: k_layout.stride() },
        v: Lying { entries: entries(&v_storage, v_layout)?, strides: v_layout.stride() },
        mask,
        heads: heads / kv_heads,
        width,
        keys,
        size,
    };
    let count = rows * width * heads * size;
    let mut result = Vec::<f32>::with_capacity(count);
    // Some positions of the heads of a key head of a row are a task: as few as there must be for every thread to have enough of them, since
    // each puts the keys and values that it looks at side by side.
    let pieces = (EACH * rayon::current_num_threads()).div_ceil((rows * kv_heads).max(1));
    let piece = width.div_ceil(pieces).next_multiple_of(QUERIES).min(width);
    let mut tasks = Vec::with_capacity(rows * kv_heads * pieces);
    for (row, result) in result.spare_capacity_mut()[..count].chunks_mut((width * heads * size).max(1)).enumerate() {
        for (index, result) in result.chunks_mut(piece * heads * size).enumerate() {
            let heads = Columns::of(result, heads * size, heads / kv_heads * size).enumerate();
            tasks.extend(heads.map(|(head, z)| Task { whole: &whole, row, head, first: index * piece, z }));
        }
    }
    let arch = Arch::new();
    match rows * heads * width * keys * size <= 4 * SMALL {
        true => tasks.into_iter().for_each(|task| arch.dispatch(task)),
        false => tasks.into_par_iter().with_max_len(1).for_each(|task| arch.dispatch(task)),
    }
    // SAFETY: the tasks cover every position and every head, and each writes all of its own.
    unsafe { result.set_len(count) };
    Tensor::from_vec(result, (rows, width, heads, size), q.device())?.transpose(1, 2)
}

/// Entries and the distances between them along each of four axes, of which the last is 1.
struct Lying<'a> {
    entries: &'a [f32],
    strides: &'a [usize],
}

impl Lying<'_> {
    #[inline(always)]
    fn at(&self, row: usize, head: usize, position: usize, size: usize) -> &[f32] {
        let start = row * self.strides[0] + head * self.strides[1] + position * self.strides[2];
        &self.entries[start..start + size]
    }
}

struct Whole<'a> {
    q: Lying<'a>,
    k: Lying<'a>,
    v: Lying<'a>,
    mask: Option<&'a [f32]>,
    /// Heads for each key head.
    heads: usize,
    width: usize,
    keys: usize,
    size: usize,
}

/// The heads of one key head at some positions.
struct Task<'a> {
    whole: &'a Whole<'a>,
    row: usize,
    head: usize,
    /// The first position.
    first: usize,
    /// What the heads gather.
    z: Columns<'a, MaybeUninit<f32>>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Whole { keys, size, width, .. } = *self.whole;
        let panel = 2 * S::F32_LANES;
        let positions = self.z.rows();
        // What the last of the positions may look at.
        let keys = keys - width + self.first + positions;
        // Keys and values in panels, as weights are.
        let (k_panels, v_panels) = (keys.div_ceil(panel), size.div_ceil(panel));
        let mut k = vec![0f32; k_panels * panel * size];
        let mut v = vec![0f32; v_panels * panel * keys];
        for key in 0..keys {
            let (at, within) = (key / panel, key % panel);
            let entries = self.whole.k.at(self.row, self.head, key, size);
            k[at * panel * size + within..].iter_mut().step_by(panel).zip(entries).for_each(|(place, entry)| *place = *entry);
            for (part, entries) in self.whole.v.at(self.row, self.head, key, size).chunks(panel).enumerate() {
                let start = (part * keys + key) * panel;
                v[start..start + entries.len()].copy_from_slice(entries);
            }
        }
        let mut scratch = Scratch { keys, x: vec![0f32; size.max(keys) * QUERIES], scores: vec![0f32; QUERIES * k_panels * panel], k, v };
        for head in 0..self.whole.heads {
            for first in (0..positions).step_by(QUERIES) {
                match positions - first {
                    1 => self.queries::<S, 1>(simd, head, first, &mut scratch),
                    2 => self.queries::<S, 2>(simd, head, first, &mut scratch),
                    3 => self.queries::<S, 3>(simd, head, first, &mut scratch),
                    4 => self.queries::<S, 4>(simd, head, first, &mut scratch),
                    5 => self.queries::<S, 5>(simd, head, first, &mut scratch),
                    _ => self.queries::<S, QUERIES>(simd, head, first, &mut scratch),
                }
            }
        }
    }
}

struct Scratch {
    /// How many keys there are.
    keys: usize,
    /// The queries, then the pattern: the entries of one input side by side.
    x: Vec<f32>,
    scores: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Task<'_> {
    /// Some positions of one head.
    #[inline(always)]
    fn queries<S: Simd, const M: usize>(&mut self, simd: S, head: usize, first: usize, scratch: &mut Scratch) {
        let Whole { size, width, .. } = *self.whole;
        let panel = 2 * S::F32_LANES;
        let Scratch { keys, x, scores, k, v } = scratch;
        let keys = *keys;
        let scale = 1.0 / (size as f32).sqrt();
        for query in 0..M {
            let entries = self.whole.q.at(self.row, self.head * self.whole.heads + head, self.first + first + query, size);
            x[query..].iter_mut().step_by(M).zip(entries).for_each(|(place, entry)| *place = entry * scale);
        }
        // What the last of these positions may look at.
        let seen = keys - self.z.rows() + first + M;
        let stride = keys.next_multiple_of(panel);
        for at in 0..seen.div_ceil(panel) {
            let mut sums = [[simd.splat_f32s(0.0); 2]; M];
            add::<S, Float, M>(simd, &x[..size * M], Float, bytemuck::cast_slice(&k[at * panel * size..(at + 1) * panel * size]), NOTHING, &mut sums);
            for (query, sums) in sums.iter().enumerate() {
                let start = query * stride + at * panel;
                S::as_mut_simd_f32s(&mut scores[start..start + panel]).0.copy_from_slice(sums);
            }
        }
        let mut weights = [0f32; M];
        for (query, weight) in weights.iter_mut().enumerate() {
            let own = seen - M + query + 1;
            let scores = &mut scores[query * stride..(query + 1) * stride];
            if let Some(mask) = self.whole.mask {
                let mask = &mask[(self.row * width + self.first + first + query) * self.whole.keys..][..own];
                scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
            }
            *weight = soften::<S>(simd, scores, own);
            x[query..seen * M].iter_mut().step_by(M).zip(&*scores).for_each(|(place, entry)| *place = *entry);
        }
        for part in 0..size.div_ceil(panel) {
            let mut sums = [[simd.splat_f32s(0.0); 2]; M];
            add::<S, Float, M>(simd, &x[..seen * M], Float, bytemuck::cast_slice(&v[part * keys * panel..][..seen * panel]), NOTHING, &mut sums);
            for (query, sums) in sums.iter_mut().enumerate() {
                let weight = simd.splat_f32s(weights[query]);
                let outputs = head * size + part * panel..(head * size + size).min(head * size + (part + 1) * panel);
                *sums = [simd.mul_f32s(sums[0], weight), simd.mul_f32s(sums[1], weight)];
                self.z.row(first + query)[outputs.clone()].write_copy_of_slice(&bytemuck::cast_slice(sums)[..outputs.len()]);
            }
        }
    }
}

/// Puts `e^(x - max)` in the place of each of the first `own` numbers, which are whole vectors with what follows them, and zero in that of what
/// follows; gives what makes their sum one.
#[inline(always)]
fn soften<S: Simd>(simd: S, scores: &mut [f32], own: usize) -> f32 {
    let vectors = own.div_ceil(S::F32_LANES);
    scores[own..vectors * S::F32_LANES].fill(f32::NEG_INFINITY);
    let (whole, behind) = S::as_mut_simd_f32s(scores).0.split_at_mut(vectors);
    behind.fill(simd.splat_f32s(0.0));
    let mut most = simd.splat_f32s(f32::MIN);
    for &scores in &*whole {
        most = simd.max_f32s(most, scores);
    }
    let most = simd.splat_f32s(simd.reduce_max_f32s(most));
    for scores in whole {
        *scores = exp(simd, simd.sub_f32s(*scores, most));
    }
    scores[own..vectors * S::F32_LANES].fill(0.0);
    let mut sum = simd.splat_f32s(0.0);
    for &scores in &S::as_simd_f32s(scores).0[..vectors] {
        sum = simd.add_f32s(sum, scores);
    }
    1.0 / simd.reduce_sum_f32s(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::attention::{attend, scores};
    use candle_core::Device;
    use nnsight_core::kernels::softmax;
    use nnsight_core::run::TokenBatch;

    fn random(shape: (usize, usize, usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap().transpose(1, 2).unwrap()
    }

    #[test]
    fn the_same_as_in_steps() {
        for (lengths, heads, kv_heads, size) in [(vec![1], 2, 2, 8), (vec![7], 9, 3, 64), (vec![40, 3], 4, 2, 16), (vec![100], 2, 1, 33)] {
            let prompts = lengths.iter().map(|&length| vec![0u32; length]).collect::<Vec<_>>();
            let prompts = prompts.iter().map(Vec::as_slice).collect::<Vec<_>>();
            let batch = TokenBatch::new(&prompts, &Device::Cpu).unwrap();
            let (rows, width) = (batch.lengths().len(), batch.width());
            let q = random((rows, width, heads, size));
            let (k, v) = (random((rows, width, kv_heads, size)), random((rows, width, kv_heads, size)));
            let mask = batch.mask(q.dtype()).unwrap();
            let expected = attend(&softmax(&scores(&q, &k, mask).unwrap()).unwrap(), &v).unwrap();
            let found = attention(&q, &k, &v, mask.filter(|_| lengths.len() > 1)).unwrap();
            let difference = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 2e-6, "{lengths:?}: {difference}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let q = random((1, 3, 2, 8));
        assert!(attention(&q, &random((1, 2, 2, 8)), &random((1, 2, 2, 8)), None).is_err());
        assert!(attention(&q, &random((1, 3, 2, 8)), &random((1, 3, 2, 4)), None).is_err());
    }
}
