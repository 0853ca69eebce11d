//! The gradient of a product for its input, through a matrix in panels.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::columns::Columns;
use super::panels::Panels;

/// Inputs that a task computes.
const INPUTS: usize = 64;

/// `y W^T`. The matrix is in `f32`.
///
/// # Shapes
/// `y`: `(rows, outer)`; the result: `(rows, inner)`.
pub fn matmul_grad_input(y: &[f32], matrix: &Panels) -> Vec<f32> {
    let (inner, outer) = (matrix.inner, matrix.outer);
    let rows = y.len() / outer;
    // As long as the panels are.
    let padded = outer.next_multiple_of(matrix.width);
    let mut whole = vec![0f32; rows * padded];
    whole.chunks_mut(padded).zip(y.chunks(outer)).for_each(|(whole, y)| whole[..outer].copy_from_slice(y));
    let mut result = vec![0f32; rows * inner];
    let arch = Arch::new();
    let parts = Columns::of(&mut result, inner, INPUTS).enumerate();
    let tasks = parts.map(|(index, x)| GradInput { y: &whole, padded, matrix, first: index * INPUTS, x });
    tasks.collect::<Vec<_>>().into_par_iter().for_each(|task| arch.dispatch(task));
    result
}

/// Some inputs for all rows.
struct GradInput<'a> {
    y: &'a [f32],
    padded: usize,
    matrix: &'a Panels,
    /// The first input.
    first: usize,
    /// The inputs.
    x: Columns<'a, f32>,
}

impl WithSimd for GradInput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let inputs = self.x.width();
        let whole = inputs / 4 * 4;
        for input in (0..whole).step_by(4) {
            self.tiles::<S, 4>(simd, input);
        }
        for input in whole..inputs {
            self.tiles::<S, 1>(simd, input);
        }
    }
}

impl GradInput<'_> {
    /// `N` inputs from `input` on, for all rows.
    #[inline(always)]
    fn tiles<S: Simd, const N: usize>(&mut self, simd: S, input: usize) {
        for row in (0..self.x.rows()).step_by(4) {
            match self.x.rows() - row {
                1 => self.tile::<S, 1, N>(simd, row, input),
                2 => self.tile::<S, 2, N>(simd, row, input),
                3 => self.tile::<S, 3, N>(simd, row, input),
                _ => self.tile::<S, 4, N>(simd, row, input),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, row: usize, input: usize) {
        let (entries, inner, width) = (self.matrix.entries(), self.matrix.inner, 2 * S::F32_LANES);
        let rows: [&[f32]; M] = std::array::from_fn(|at| &self.y[(row + at) * self.padded..(row + at + 1) * self.padded]);
        let first = self.first + input;
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        for panel in 0..self.padded / width {
            let (weights, _) = S::as_simd_f32s(&entries[(panel * inner + first) * width..][..N * width]);
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
                self.x.row(row + at)[input + column] = simd.reduce_sum_f32s(*sum);
            }
        }
    }
}
