//! Attention in one pass: nothing as large as the scores of all positions is ever written down.

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::SMALL;
use super::columns::Columns;
use super::dequantize::F32;
use super::exp::exp;
use super::microkernel::{NOTHING, add};

/// Queries that are taken together.
const QUERIES: usize = 6;

/// Tasks that a thread should have at least, so that all of them end at about the same time.
const EACH: usize = 8;

/// Entries and the distances between them along each of four axes, of which the last is 1.
pub struct Strided<'a> {
    /// From the first on.
    pub entries: &'a [f32],
    /// Of `(Batch, Heads, Position, HeadDim)`.
    pub strides: &'a [usize],
}

/// The inputs of an attention, and their sizes.
pub struct Inputs<'a> {
    pub q: Strided<'a>,
    pub k: Strided<'a>,
    pub v: Strided<'a>,
    /// `(Batch, 1, Query, Key)`, contiguous: what is added to the scores, if more is hidden than what comes later.
    pub mask: Option<&'a [f32]>,
    pub rows: usize,
    pub kv_heads: usize,
    /// Heads for each key head.
    pub heads: usize,
    pub width: usize,
    pub keys: usize,
    pub size: usize,
}

/// What each head gathers: `softmax(q k^T / sqrt(HeadDim) + mask) v`; a query sees its own position and those before it. The last
/// `width` of the `keys` are those of the queries.
///
/// # Shapes
/// The result: `(Batch, Seq, Heads, HeadDim)`.
pub fn attention(inputs: &Inputs) -> Vec<f32> {
    let &Inputs { rows, kv_heads, width, keys, size, .. } = inputs;
    let heads = inputs.heads * kv_heads;
    let count = rows * width * heads * size;
    if count == 0 {
        return Vec::new();
    }
    let mut result = Vec::<f32>::with_capacity(count);
    // Some positions of the heads of a key head of a row are a task: as few as there must be for every thread to have enough of them, since
    // each puts the keys and values that it looks at side by side.
    let pieces = (EACH * rayon::current_num_threads()).div_ceil(rows * kv_heads);
    let piece = width.div_ceil(pieces).next_multiple_of(QUERIES).min(width);
    let mut tasks = Vec::with_capacity(rows * kv_heads * pieces);
    for (row, result) in result.spare_capacity_mut()[..count].chunks_mut(width * heads * size).enumerate() {
        for (index, result) in result.chunks_mut(piece * heads * size).enumerate() {
            let heads = Columns::of(result, heads * size, inputs.heads * size).enumerate();
            tasks.extend(heads.map(|(head, z)| Task { inputs, row, head, first: index * piece, z }));
        }
    }
    let arch = Arch::new();
    match rows * heads * width * keys * size <= 4 * SMALL {
        true => tasks.into_iter().for_each(|task| arch.dispatch(task)),
        false => tasks.into_par_iter().with_max_len(1).for_each(|task| arch.dispatch(task)),
    }
    // SAFETY: the rows, their pieces and the columns of these are all `count` entries, each in one task, and a task writes all of its own: for
    // each of its positions and heads, `size` outputs in parts of a panel.
    unsafe { result.set_len(count) };
    result
}

impl Strided<'_> {
    #[inline(always)]
    fn at(&self, row: usize, head: usize, position: usize, size: usize) -> &[f32] {
        let start = row * self.strides[0] + head * self.strides[1] + position * self.strides[2];
        &self.entries[start..start + size]
    }
}

/// The heads of one key head at some positions.
struct Task<'a> {
    inputs: &'a Inputs<'a>,
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
        let Inputs { keys, size, width, .. } = *self.inputs;
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
            let entries = self.inputs.k.at(self.row, self.head, key, size);
            k[at * panel * size + within..].iter_mut().step_by(panel).zip(entries).for_each(|(place, entry)| *place = *entry);
            for (part, entries) in self.inputs.v.at(self.row, self.head, key, size).chunks(panel).enumerate() {
                let start = (part * keys + key) * panel;
                v[start..start + entries.len()].copy_from_slice(entries);
            }
        }
        let mut scratch = Scratch { keys, x: vec![0f32; size.max(keys) * QUERIES], scores: vec![0f32; QUERIES * k_panels * panel], k, v };
        for head in 0..self.inputs.heads {
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
        let Inputs { size, width, .. } = *self.inputs;
        let panel = 2 * S::F32_LANES;
        let Scratch { keys, x, scores, k, v } = scratch;
        let keys = *keys;
        let scale = 1.0 / (size as f32).sqrt();
        for query in 0..M {
            let entries = self.inputs.q.at(self.row, self.head * self.inputs.heads + head, self.first + first + query, size);
            x[query..].iter_mut().step_by(M).zip(entries).for_each(|(place, entry)| *place = entry * scale);
        }
        // What the last of these positions may look at.
        let seen = keys - self.z.rows() + first + M;
        let stride = keys.next_multiple_of(panel);
        for at in 0..seen.div_ceil(panel) {
            let mut sums = [[simd.splat_f32s(0.0); 2]; M];
            add::<S, F32, M>(simd, &x[..size * M], F32, bytemuck::cast_slice(&k[at * panel * size..(at + 1) * panel * size]), NOTHING, &mut sums);
            for (query, sums) in sums.iter().enumerate() {
                let start = query * stride + at * panel;
                S::as_mut_simd_f32s(&mut scores[start..start + panel]).0.copy_from_slice(sums);
            }
        }
        let mut weights = [0f32; M];
        for (query, weight) in weights.iter_mut().enumerate() {
            let own = seen - M + query + 1;
            let scores = &mut scores[query * stride..(query + 1) * stride];
            if let Some(mask) = self.inputs.mask {
                let mask = &mask[(self.row * width + self.first + first + query) * self.inputs.keys..][..own];
                scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
            }
            *weight = softmax_in_place::<S>(simd, scores, own);
            x[query..seen * M].iter_mut().step_by(M).zip(&*scores).for_each(|(place, entry)| *place = *entry);
        }
        for part in 0..size.div_ceil(panel) {
            let mut sums = [[simd.splat_f32s(0.0); 2]; M];
            add::<S, F32, M>(simd, &x[..seen * M], F32, bytemuck::cast_slice(&v[part * keys * panel..][..seen * panel]), NOTHING, &mut sums);
            for (query, sums) in sums.iter_mut().enumerate() {
                let weight = simd.splat_f32s(weights[query]);
                let outputs = head * size + part * panel..(head * size + size).min(head * size + (part + 1) * panel);
                *sums = [simd.mul_f32s(sums[0], weight), simd.mul_f32s(sums[1], weight)];
                self.z.row(first + query)[outputs.clone()].write_copy_of_slice(&bytemuck::cast_slice(sums)[..outputs.len()]);
            }
        }
    }
}

/// Overwrites each of the first `own` numbers with `e^(x - max)`, and those after them with zero; returns the factor that makes their sum one. With
/// what follows them they are whole vectors.
#[inline(always)]
fn softmax_in_place<S: Simd>(simd: S, scores: &mut [f32], own: usize) -> f32 {
    let vectors = own.div_ceil(S::F32_LANES);
    scores[own..vectors * S::F32_LANES].fill(f32::NEG_INFINITY);
    let (whole, after) = S::as_mut_simd_f32s(scores).0.split_at_mut(vectors);
    after.fill(simd.splat_f32s(0.0));
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
