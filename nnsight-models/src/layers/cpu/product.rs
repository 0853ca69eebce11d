//! The product with a matrix in panels, and the one back.

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::panels::{GROUP, Panels, WIDEST};

/// Rows of the input that are held in registers at once, where there are thirty-two of those; else [`FEWER`].
const MOST: usize = 14;

/// As [`MOST`] with sixteen registers.
const FEWER: usize = 6;

/// Rows of the input that a task takes: what stays in the cache next to a panel.
const BLOCK: usize = 14 * 12;

/// Inputs whose products are added up by themselves: the sum of many numbers one after the other loses more than that of such sums.
const PORTION: usize = 144;

/// Bytes of a matrix that a task reads at least: enough that starting it costs nothing beside them.
const TASK: usize = 1 << 17;

/// `x W` for some matrices of the same inner size, all in one go over the threads.
///
/// # Shapes
/// `x`: `(rows, inner)`; the result of each matrix: `(rows, outer)`.
pub fn products(x: &[f32], matrices: &[&Panels]) -> Vec<Vec<f32>> {
    let Some(inner) = matrices.first().map(|matrix| matrix.inner) else { return Vec::new() };
    let rows = x.len() / inner;
    let arch = Arch::new();
    let most = arch.dispatch(Most);
    let blocks = x.par_chunks(BLOCK * inner).map(|block| Block::new(block, inner, most)).collect::<Vec<_>>();
    // Not filled with zeros first: that would be a pass over memory by one thread, and for large results most of what is not a product.
    let mut results = matrices.iter().map(|matrix| Vec::<f32>::with_capacity(rows * matrix.outer)).collect::<Vec<_>>();
    let mut tasks = Vec::new();
    for (result, &matrix) in results.iter_mut().zip(matrices) {
        let panels = (TASK / (4 * inner * matrix.width)).max(1);
        let outputs = panels * matrix.width;
        let result = &mut result.spare_capacity_mut()[..rows * matrix.outer];
        for (block, result) in blocks.iter().zip(result.chunks_mut(BLOCK * matrix.outer)) {
            let mut parts = (0..matrix.outer.div_ceil(outputs)).map(|_| Vec::with_capacity(block.rows)).collect::<Vec<_>>();
            for row in result.chunks_mut(matrix.outer) {
                row.chunks_mut(outputs).zip(&mut parts).for_each(|(part, parts)| parts.push(part));
            }
            tasks.extend(parts.into_iter().enumerate().map(|(index, y)| Task { block, matrix, first: index * panels, y }));
        }
    }
    tasks.into_par_iter().for_each(|task| arch.dispatch(task));
    for (result, matrix) in results.iter_mut().zip(matrices) {
        // SAFETY: the tasks cover every row and every output, and each writes all of its own.
        unsafe { result.set_len(rows * matrix.outer) };
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

/// Some rows of the input, in groups, in each of which the entries of one input stand side by side.
struct Block {
    rows: usize,
    /// The rows of a group; the last may have fewer.
    group: usize,
    entries: Vec<f32>,
}

impl Block {
    fn new(x: &[f32], inner: usize, most: usize) -> Self {
        let rows = x.len() / inner;
        // As even as can be.
        let group = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
        let mut entries = vec![0f32; x.len()];
        for (entries, x) in entries.chunks_mut(group * inner).zip(x.chunks(group * inner)) {
            let height = x.len() / inner;
            for (row, x) in x.chunks(inner).enumerate() {
                entries[row..].iter_mut().step_by(height).zip(x).for_each(|(entry, &x)| *entry = x);
            }
        }
        Block { rows, group, entries }
    }
}

/// Some panels for a block of rows.
struct Task<'a> {
    block: &'a Block,
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
        let (inner, width) = (self.matrix.inner, 2 * S::F32_LANES);
        let outputs = self.y.first().map_or(0, |y| y.len());
        for panel in 0..outputs.div_ceil(width) {
            let columns = panel * width..outputs.min(panel * width + width);
            let panel = self.first + panel;
            let groups = self.block.entries.chunks(self.block.group * inner).zip(self.y.chunks_mut(self.block.group));
            for (x, y) in groups {
                let part = Part { x, matrix: self.matrix, panel, columns: columns.clone() };
                match y.len() {
                    1 => part.run::<S, 1>(simd, y),
                    2 => part.run::<S, 2>(simd, y),
                    3 => part.run::<S, 3>(simd, y),
                    4 => part.run::<S, 4>(simd, y),
                    5 => part.run::<S, 5>(simd, y),
                    6 => part.run::<S, 6>(simd, y),
                    7 => part.run::<S, 7>(simd, y),
                    8 => part.run::<S, 8>(simd, y),
                    9 => part.run::<S, 9>(simd, y),
                    10 => part.run::<S, 10>(simd, y),
                    11 => part.run::<S, 11>(simd, y),
                    12 => part.run::<S, 12>(simd, y),
                    13 => part.run::<S, 13>(simd, y),
                    _ => part.run::<S, MOST>(simd, y),
                }
            }
        }
    }
}

/// One panel for a group of rows.
struct Part<'a> {
    x: &'a [f32],
    matrix: &'a Panels,
    panel: usize,
    /// Where the outputs stand in the task's.
    columns: std::ops::Range<usize>,
}

impl Part<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(&self, simd: S, y: &mut [&mut [MaybeUninit<f32>]]) {
        let (inner, width) = (self.matrix.inner, 2 * S::F32_LANES);
        let mut sums = [[simd.splat_f32s(0.0); 2]; M];
        let mut widened = [0f32; GROUP * WIDEST];
        let portion = if self.matrix.is_plain() { PORTION } else { GROUP };
        for (index, x) in self.x.chunks(portion * M).enumerate() {
            let inputs = index * portion..inner.min((index + 1) * portion);
            let mut some = [[simd.splat_f32s(0.0); 2]; M];
            add::<S, M>(simd, x, self.matrix.chunk(self.panel, inputs, width, &mut widened), &mut some);
            for (sums, some) in sums.iter_mut().zip(&some) {
                sums[0] = simd.add_f32s(sums[0], some[0]);
                sums[1] = simd.add_f32s(sums[1], some[1]);
            }
        }
        for (sums, y) in sums.iter().zip(y) {
            let mut whole = [0f32; WIDEST];
            let (vectors, _) = S::as_mut_simd_f32s(&mut whole);
            vectors[..2].copy_from_slice(sums);
            y[self.columns.clone()].write_copy_of_slice(&whole[..self.columns.len()]);
        }
    }
}

/// Adds the products of some inputs, of which `x` holds `M` entries each, and the weights two vectors.
#[inline(always)]
pub fn add<S: Simd, const M: usize>(simd: S, x: &[f32], weights: &[f32], sums: &mut [[S::f32s; 2]; M]) {
    let (vectors, _) = S::as_simd_f32s(weights);
    let mut held = *sums;
    for (x, weights) in x.as_chunks::<M>().0.iter().zip(vectors.as_chunks::<2>().0) {
        prefetch(weights);
        for row in 0..M {
            let entry = simd.splat_f32s(x[row]);
            held[row][0] = simd.mul_add_e_f32s(entry, weights[0], held[row][0]);
            held[row][1] = simd.mul_add_e_f32s(entry, weights[1], held[row][1]);
        }
    }
    *sums = held;
}

/// Bytes between what is read and what is asked for. The processor asks for what comes next by itself, but not beyond a page of memory, and
/// waits at each of them.
const AHEAD: usize = 2048;

/// Asks for weights that will be read soon.
#[inline(always)]
fn prefetch<T>(weights: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let ahead = std::ptr::from_ref(weights).cast::<i8>().wrapping_add(AHEAD);
        for line in (0..size_of::<T>()).step_by(64) {
            // SAFETY: a prefetch reads nothing: any address may be asked for.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = weights;
}

/// Inputs that a task of the product back computes.
const INPUTS: usize = 64;

/// `y W^T`, the way that a gradient takes. The matrix is in `f32`.
///
/// # Shapes
/// `y`: `(rows, outer)`; the result: `(rows, inner)`.
pub fn back(y: &[f32], matrix: &Panels) -> Vec<f32> {
    let (inner, outer) = (matrix.inner, matrix.outer);
    let rows = y.len() / outer;
    // As long as the panels are.
    let padded = outer.next_multiple_of(matrix.width);
    let mut whole = vec![0f32; rows * padded];
    whole.chunks_mut(padded).zip(y.chunks(outer)).for_each(|(whole, y)| whole[..outer].copy_from_slice(y));
    let mut result = vec![0f32; rows * inner];
    let mut parts = (0..inner.div_ceil(INPUTS)).map(|_| Vec::with_capacity(rows)).collect::<Vec<_>>();
    for row in result.chunks_mut(inner) {
        row.chunks_mut(INPUTS).zip(&mut parts).for_each(|(part, parts)| parts.push(part));
    }
    let arch = Arch::new();
    let tasks = parts.into_iter().enumerate().map(|(index, x)| Back { y: &whole, padded, matrix, first: index * INPUTS, x });
    tasks.collect::<Vec<_>>().into_par_iter().for_each(|task| arch.dispatch(task));
    result
}

/// Some inputs for all rows.
struct Back<'a> {
    y: &'a [f32],
    padded: usize,
    matrix: &'a Panels,
    /// The first input.
    first: usize,
    /// For each row the inputs.
    x: Vec<&'a mut [f32]>,
}

impl WithSimd for Back<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let inputs = self.x.first().map_or(0, |x| x.len());
        let whole = inputs / 4 * 4;
        for input in (0..whole).step_by(4) {
            self.tiles::<S, 4>(simd, input);
        }
        for input in whole..inputs {
            self.tiles::<S, 1>(simd, input);
        }
    }
}

impl Back<'_> {
    /// `N` inputs from `input` on, for all rows.
    #[inline(always)]
    fn tiles<S: Simd, const N: usize>(&mut self, simd: S, input: usize) {
        for row in (0..self.x.len()).step_by(4) {
            match self.x.len() - row {
                1 => self.tile::<S, 1, N>(simd, row, input),
                2 => self.tile::<S, 2, N>(simd, row, input),
                3 => self.tile::<S, 3, N>(simd, row, input),
                _ => self.tile::<S, 4, N>(simd, row, input),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, row: usize, input: usize) {
        let width = 2 * S::F32_LANES;
        let rows: [&[f32]; M] = std::array::from_fn(|at| &self.y[(row + at) * self.padded..(row + at + 1) * self.padded]);
        let first = self.first + input;
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        for panel in 0..self.padded / width {
            let (weights, _) = S::as_simd_f32s(self.matrix.chunk_plain(panel, first..first + N));
            let y: [&[S::f32s]; M] = std::array::from_fn(|at| S::as_simd_f32s(&rows[at][panel * width..(panel + 1) * width]).0);
            for half in 0..2 {
                for column in 0..N {
                    let weight = weights[column * 2 + half];
                    for at in 0..M {
                        sums[at][column] = simd.mul_add_e_f32s(y[at][half], weight, sums[at][column]);
                    }
                }
            }
        }
        for (at, sums) in sums.iter().enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                self.x[row + at][input + column] = simd.reduce_sum_f32s(*sum);
            }
        }
    }
}
