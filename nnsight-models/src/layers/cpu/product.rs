//! The product with matrices in panels.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::SMALL;
use super::panels::{Form, Panels, Weights};
use super::widen::{Bytes, Float, Halves, Nibbles, Widen};

/// Rows of the input that are held in registers at once, where there are thirty-two of those; else [`FEWER`].
const MOST: usize = 14;

/// As [`MOST`] with sixteen registers.
const FEWER: usize = 6;

/// Groups of rows that a task takes: what stays in the cache next to a panel.
const GROUPS: usize = 12;

/// Panels whose results are written together: as many rows as a task has lie too far apart for each to be written a little at a time.
const TOGETHER: usize = 8;

/// Bytes of a matrix that a task with one group of rows reads at least: enough that starting it costs nothing beside them.
const TASK: usize = 1 << 17;

/// `x W` for some matrices of the same inner size, all in one go over the threads.
///
/// # Shapes
/// `x`: `(rows, inner)`; the result of each matrix: `(rows, outer)`.
pub fn products(x: &[f32], matrices: &[&Panels]) -> Vec<Vec<f32>> {
    let Some(inner) = matrices.first().map(|matrix| matrix.inner) else { return Vec::new() };
    let arch = Arch::new();
    let rows = Rows::new(x, inner, arch.dispatch(Most));
    // Not filled with zeros first: that would be a pass over memory by one thread, and for large results most of what is not a product.
    let mut results = matrices.iter().map(|matrix| Vec::<f32>::with_capacity(rows.count * matrix.outer)).collect::<Vec<_>>();
    let mut tasks = Vec::new();
    for (result, &matrix) in results.iter_mut().zip(matrices) {
        let panels = match rows.count <= rows.group {
            true => (TASK / (4 * inner * matrix.width)).max(1),
            false => TOGETHER,
        };
        let outputs = panels * matrix.width;
        let result = &mut result.spare_capacity_mut()[..rows.count * matrix.outer];
        for (x, result) in rows.blocks().zip(result.chunks_mut(GROUPS * rows.group * matrix.outer)) {
            let mut parts = (0..matrix.outer.div_ceil(outputs)).map(|_| Vec::with_capacity(x.len() / inner)).collect::<Vec<_>>();
            for row in result.chunks_mut(matrix.outer) {
                row.chunks_mut(outputs).zip(&mut parts).for_each(|(part, parts)| parts.push(part));
            }
            tasks.extend(parts.into_iter().enumerate().map(|(index, y)| Task { x, group: rows.group, matrix, first: index * panels, y }));
        }
    }
    tasks.into_par_iter().for_each(|task| arch.dispatch(task));
    for (result, matrix) in results.iter_mut().zip(matrices) {
        // SAFETY: the tasks cover every row and every output, and each writes all of its own.
        unsafe { result.set_len(rows.count * matrix.outer) };
    }
    results
}

/// How many rows are held in registers.
struct Most;

impl WithSimd for Most {
    type Output = usize;
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        if S::REGISTER_COUNT >= 32 { MOST } else { FEWER }
    }
}

/// The input in groups of rows, in each of which the entries of one input stand side by side.
struct Rows {
    count: usize,
    inner: usize,
    /// The rows of a group; the last may have fewer.
    group: usize,
    entries: Vec<f32>,
}

/// Inputs of a group that are put side by side at a time: what is read and what is written stays in the cache.
const SIDE_BY_SIDE: usize = 64;

impl Rows {
    fn new(x: &[f32], inner: usize, most: usize) -> Self {
        let count = x.len() / inner;
        // As even as can be.
        let group = count.div_ceil(count.div_ceil(most).max(1)).max(1);
        let mut entries = vec![0f32; x.len()];
        let put = |(entries, x): (&mut [f32], &[f32])| {
            let height = x.len() / inner;
            for first in (0..inner).step_by(SIDE_BY_SIDE) {
                for (row, x) in x.chunks(inner).enumerate() {
                    let x = &x[first..inner.min(first + SIDE_BY_SIDE)];
                    entries[first * height + row..].iter_mut().step_by(height).zip(x).for_each(|(entry, &x)| *entry = x);
                }
            }
        };
        let size = group * inner;
        match x.len() <= SMALL {
            true => entries.chunks_mut(size).zip(x.chunks(size)).for_each(put),
            false => entries.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(put),
        }
        Rows { count, inner, group, entries }
    }

    /// The groups, some at a time.
    fn blocks(&self) -> impl Iterator<Item = &[f32]> {
        self.entries.chunks(GROUPS * self.group * self.inner)
    }
}

/// Some panels for some groups of rows.
struct Task<'a> {
    x: &'a [f32],
    /// The rows of a group.
    group: usize,
    matrix: &'a Panels,
    /// The first panel.
    first: usize,
    /// For each row the outputs.
    y: Vec<&'a mut [MaybeUninit<f32>]>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (width, rows) = (2 * S::F32_LANES, self.y.len());
        let outputs = self.y.first().map_or(0, |y| y.len());
        let zero = [simd.splat_f32s(0.0); 2];
        let mut sums = vec![zero; rows * TOGETHER];
        for first in (0..outputs).step_by(TOGETHER * width) {
            let columns = first..outputs.min(first + TOGETHER * width);
            for (index, sums) in sums.chunks_mut(rows).take(columns.len().div_ceil(width)).enumerate() {
                sums.fill(zero);
                self.panel(simd, self.first + first / width + index, sums);
            }
            for (row, y) in self.y.iter_mut().enumerate() {
                for (y, sums) in y[columns.clone()].chunks_mut(width).zip(sums[row..].iter().step_by(rows)) {
                    y.write_copy_of_slice(&bytemuck::cast_slice(sums)[..y.len()]);
                }
            }
        }
    }
}

impl Task<'_> {
    /// Adds the products of a panel with all rows.
    #[inline(always)]
    fn panel<S: Simd>(&self, simd: S, panel: usize, sums: &mut [[S::f32s; 2]]) {
        let inner = self.matrix.inner;
        let portion = self.matrix.portion();
        for first in (0..inner).step_by(portion) {
            let inputs = first..inner.min(first + portion);
            let Weights { words, scales, offsets } = self.matrix.weights(panel, inputs.clone(), 2 * S::F32_LANES);
            match self.matrix.form {
                Form::Float => self.portion(simd, inputs, Float, words, sums),
                Form::Halves => self.portion(simd, inputs, Halves, words, sums),
                Form::Bytes => self.portion(simd, inputs, Bytes::<S>::new(scales), words, sums),
                Form::Nibbles => self.portion(simd, inputs, Nibbles::<S>::new(scales, offsets), words, sums),
            }
        }
    }

    /// Adds the products of some inputs' weights with all rows.
    #[inline(always)]
    fn portion<S: Simd, W: Widen<S>>(&self, simd: S, inputs: Range<usize>, form: W, words: &[u32], sums: &mut [[S::f32s; 2]]) {
        for (index, (x, sums)) in self.x.chunks(self.group * self.matrix.inner).zip(sums.chunks_mut(self.group)).enumerate() {
            let ahead = index == 0;
            let x = &x[inputs.start * sums.len()..inputs.end * sums.len()];
            match sums.len() {
                1 => add::<S, W, 1>(simd, x, form, words, ahead, sums),
                2 => add::<S, W, 2>(simd, x, form, words, ahead, sums),
                3 => add::<S, W, 3>(simd, x, form, words, ahead, sums),
                4 => add::<S, W, 4>(simd, x, form, words, ahead, sums),
                5 => add::<S, W, 5>(simd, x, form, words, ahead, sums),
                6 => add::<S, W, 6>(simd, x, form, words, ahead, sums),
                7 => add::<S, W, 7>(simd, x, form, words, ahead, sums),
                8 => add::<S, W, 8>(simd, x, form, words, ahead, sums),
                9 => add::<S, W, 9>(simd, x, form, words, ahead, sums),
                10 => add::<S, W, 10>(simd, x, form, words, ahead, sums),
                11 => add::<S, W, 11>(simd, x, form, words, ahead, sums),
                12 => add::<S, W, 12>(simd, x, form, words, ahead, sums),
                13 => add::<S, W, 13>(simd, x, form, words, ahead, sums),
                _ => add::<S, W, MOST>(simd, x, form, words, ahead, sums),
            }
        }
    }
}

/// Adds the products of some inputs, of which `x` has `M` entries each, and their weights; `ahead` says whether what lies behind these weights
/// will be read next.
#[inline(always)]
pub fn add<S: Simd, W: Widen<S>, const M: usize>(simd: S, x: &[f32], form: W, words: &[u32], ahead: bool, sums: &mut [[S::f32s; 2]]) {
    let Some(sums) = sums.first_chunk_mut::<M>() else { return };
    let (vectors, _) = S::as_simd_u32s(words);
    // By themselves: the sum of many numbers one after the other loses more than that of such sums.
    let mut some = [[simd.splat_f32s(0.0); 2]; M];
    let inputs = (32 / W::BITS) as usize;
    for (x, words) in x.as_chunks::<M>().0.chunks_exact(inputs).zip(vectors.as_chunks::<2>().0) {
        if ahead {
            prefetch(words);
        }
        let mut words = *words;
        for x in x {
            let weights = form.widen(simd, words);
            for row in 0..M {
                let entry = simd.splat_f32s(x[row]);
                some[row][0] = simd.mul_add_e_f32s(entry, weights[0], some[row][0]);
                some[row][1] = simd.mul_add_e_f32s(entry, weights[1], some[row][1]);
            }
            if W::BITS < 32 {
                let bits = simd.splat_u32s(W::BITS);
                words = [simd.wrapping_dyn_shr_u32s(words[0], bits), simd.wrapping_dyn_shr_u32s(words[1], bits)];
            }
        }
    }
    for row in 0..M {
        sums[row][0] = simd.add_f32s(sums[row][0], some[row][0]);
        sums[row][1] = simd.add_f32s(sums[row][1], some[row][1]);
    }
}

/// Bytes between what is read and what the nearer cache is asked for.
const NEAR: usize = 1024;

/// Pages of memory that the farther cache is asked for side by side, those after the ones that are being read. By itself the processor asks for
/// what comes next in a page, some lines ahead of each: in one page alone that is too little to keep memory busy while it multiplies.
const PAGES: usize = 8;

const PAGE: usize = 4096;

/// Asks for weights that will be read soon.
#[inline(always)]
fn prefetch<T>(weights: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let start = weights.as_ptr().cast::<i8>();
        let place = start.addr() % (PAGES * PAGE);
        for line in place.div_ceil(64)..(place + size_of_val(weights)).div_ceil(64) {
            let far = PAGES * PAGE + line % PAGES * PAGE + line / PAGES * 64;
            // SAFETY: a prefetch reads nothing: any address may be asked for.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line * 64 + NEAR).wrapping_sub(place));
                _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(far).wrapping_sub(place));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = weights;
}
