//! Products of few rows with large matrices: each row of a matrix is read from memory once, and held in registers against all rows.
//!
//! Where a batch has many positions, the general product of candle is as fast as the machine; with few of them (a prompt, a step of a
//! generation) it repacks the matrix for every product, and reading that is most of the work.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::matrix::Stored;

/// Up to how many rows this is the faster product.
pub const FEW: usize = 192;

/// Rows that are taken together.
const GROUP: usize = 64;

/// Outputs that one task computes: enough that starting it costs nothing beside them.
const CHUNK: usize = 60;

/// `x W^T` for some matrices, all in one go over the threads.
///
/// # Shapes
/// `x`: `(rows, inner)`; each matrix `(outer, inner)`, whose result is `(rows, outer)`.
pub fn products(x: &[f32], inner: usize, matrices: &[Stored<'_>]) -> Vec<Vec<f32>> {
    let rows = x.len() / inner;
    let mut results = matrices.iter().map(|matrix| vec![0f32; rows * matrix.outer(inner)]).collect::<Vec<_>>();
    let mut tasks = Vec::new();
    for (result, &matrix) in results.iter_mut().zip(matrices) {
        let outer = matrix.outer(inner);
        let mut parts = (0..outer.div_ceil(CHUNK)).map(|_| Vec::with_capacity(rows)).collect::<Vec<_>>();
        for row in result.chunks_mut(outer) {
            row.chunks_mut(CHUNK).zip(&mut parts).for_each(|(part, parts)| parts.push(part));
        }
        tasks.extend(parts.into_iter().enumerate().map(|(index, y)| Task { x, matrix, first: index * CHUNK, inner, y }));
    }
    let arch = Arch::new();
    tasks.into_par_iter().for_each(|task| arch.dispatch(task));
    results
}

/// Some outputs for all rows.
struct Task<'a> {
    x: &'a [f32],
    matrix: Stored<'a>,
    /// The first row of the matrix.
    first: usize,
    inner: usize,
    /// For each row of `x` the outputs.
    y: Vec<&'a mut [f32]>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as there are registers for: four rows against this many of the matrix.
        match S::REGISTER_COUNT {
            32.. => self.run::<S, 5>(simd),
            _ => self.run::<S, 3>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(mut self, simd: S) {
        let outputs = self.y.first().map_or(0, |y| y.len());
        let mut widened = Vec::new();
        let whole = outputs / N * N;
        // Rows that stay in the cache next to the task's part of the matrix.
        for group in 0..self.y.len().div_ceil(GROUP) {
            for output in (0..whole).step_by(N) {
                self.block::<S, N>(simd, group, output, &mut widened);
            }
            for output in whole..outputs {
                self.block::<S, 1>(simd, group, output, &mut widened);
            }
        }
    }

    /// The outputs from `output` on, `N` of them, for a group of rows.
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, simd: S, group: usize, output: usize, widened: &mut Vec<f32>) {
        let inner = self.inner;
        let first = group * GROUP;
        let last = (first + GROUP).min(self.y.len());
        let weights = self.matrix.rows(self.first + output, N, inner, widened);
        for (rows, y) in self.x[first * inner..last * inner].chunks(4 * inner).zip(self.y[first..last].chunks_mut(4)) {
            match y.len() {
                4 => tile::<S, 4, N>(simd, rows, weights, inner, y, output),
                3 => tile::<S, 3, N>(simd, rows, weights, inner, y, output),
                2 => tile::<S, 2, N>(simd, rows, weights, inner, y, output),
                _ => tile::<S, 1, N>(simd, rows, weights, inner, y, output),
            }
        }
    }
}

/// `M` rows against `N` rows of the matrix.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(simd: S, x: &[f32], weights: &[f32], inner: usize, y: &mut [&mut [f32]], output: usize) {
    let x: [_; M] = std::array::from_fn(|row| S::as_simd_f32s(&x[row * inner..(row + 1) * inner]));
    let weights: [_; N] = std::array::from_fn(|row| S::as_simd_f32s(&weights[row * inner..(row + 1) * inner]));
    let len = inner / S::F32_LANES;
    // Said once, so that no access below is checked.
    let heads: [&[S::f32s]; M] = std::array::from_fn(|row| &x[row].0[..len]);
    let weight_heads: [&[S::f32s]; N] = std::array::from_fn(|row| &weights[row].0[..len]);
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for at in 0..len {
        let entries: [S::f32s; M] = std::array::from_fn(|row| heads[row][at]);
        for column in 0..N {
            let weight = weight_heads[column][at];
            for row in 0..M {
                sums[row][column] = simd.mul_add_e_f32s(entries[row], weight, sums[row][column]);
            }
        }
    }
    for row in 0..M {
        for column in 0..N {
            let rest = x[row].1.iter().zip(weights[column].1).map(|(x, weight)| x * weight).sum::<f32>();
            y[row][output + column] = simd.reduce_sum_f32s(sums[row][column]) + rest;
        }
    }
}
