//! The product with matrices in panels.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytemuck::Zeroable;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::SMALL;
use super::columns::Columns;
use super::dequantize::{Bf16, Dequantize, F16, F32, Q4, Q8};
use super::microkernel::{Ahead, add};
use super::panels::{Encoding, Line, Panels, Weights};

/// Rows of the input that are held in registers at once, if there are thirty-two of those; else [`FEWER`].
const MOST: usize = 14;

/// As [`MOST`] with sixteen registers.
const FEWER: usize = 6;

/// Bytes of the input that a task takes at most: what stays in the cache next to a panel.
const BLOCK: usize = 1 << 19;

/// Panels whose results are written together: as many rows as a task has are too far apart for each to be written a little at a time.
const TOGETHER: usize = 8;

/// Tasks that a thread should have at least, so that all of them end at about the same time.
const EACH: usize = 16;

/// Bytes of a matrix that a task with one group of rows reads at least: enough that starting it costs nothing beside them.
const TASK: usize = 1 << 18;

/// Runs something that knows at compile time how many rows a group has.
macro_rules! for_height {
    ($height:expr, $rows:ident => $run:expr) => {
        for_height!($height, $rows => $run, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    ($height:expr, $rows:ident => $run:expr, $($number:literal)+) => {
        match $height {
            $($number => {
                const $rows: usize = $number;
                $run
            })+
            height => unreachable!("a group has {MOST} rows at most, not {height}"),
        }
    };
}

/// `x W` for some matrices of the same inner size, all in one go over the threads.
///
/// # Shapes
/// `x`: `(rows, inner)`; the result of each matrix: `(rows, outer)`.
pub fn matmul(x: &[f32], matrices: &[&Panels]) -> Vec<Vec<f32>> {
    let Some(inner) = matrices.first().map(|matrix| matrix.inner) else { return Vec::new() };
    let arch = Arch::new();
    let rows = Rows::new(x, inner, arch.dispatch(Most));
    // Not filled with zeros first: that would be a pass over memory by one thread, and for large results most of what is not a product.
    let mut results = matrices.iter().map(|matrix| Vec::<f32>::with_capacity(rows.count * matrix.outer)).collect::<Vec<_>>();
    let (blocks, tasks) = (rows.blocks().count(), EACH * rayon::current_num_threads());
    let mut all = Vec::new();
    for (result, &matrix) in results.iter_mut().zip(matrices) {
        let panels = match rows.count <= rows.group {
            true => (TASK / (4 * inner * matrix.width)).max(1),
            false => {
                let all = matrix.outer.div_ceil(matrix.width);
                all.div_ceil(all.div_ceil((all * blocks / tasks).clamp(1, TOGETHER)))
            }
        };
        let outputs = panels * matrix.width;
        let result = &mut result.spare_capacity_mut()[..rows.count * matrix.outer];
        assert_eq!(result.len().div_ceil((rows.block() * matrix.outer).max(1)), blocks, "a chunk of the result for every block of rows");
        for (x, result) in rows.blocks().zip(result.chunks_mut(rows.block() * matrix.outer)) {
            let parts = Columns::of(result, matrix.outer, outputs).enumerate();
            all.extend(parts.map(|(index, y)| Task { x, group: rows.group, matrix, first: index * panels, y }));
        }
    }
    // One by one: a thread that is held up leaves its tasks to the others.
    all.into_par_iter().with_max_len(1).for_each(|task| arch.dispatch(task));
    for (result, matrix) in results.iter_mut().zip(matrices) {
        // SAFETY: there are as many blocks of rows as chunks of the result (asserted above), of as many rows each; the columns of a chunk are all of
        // its outputs, each in one task, and a task writes all of its own. If one panics, this is not reached.
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

/// The input in groups of rows, in each of which the entries of one input are next to each other.
struct Rows {
    count: usize,
    inner: usize,
    /// The rows of a group; the last may have fewer.
    group: usize,
    /// May be longer.
    entries: Vec<f32>,
}

thread_local! {
    /// What the last input was held in, for the next one: it is in the cache.
    static HELD: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };

    /// What the last task's sums were held in, likewise.
    static SUMS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

impl Drop for Rows {
    fn drop(&mut self) {
        HELD.set(std::mem::take(&mut self.entries));
    }
}

impl Rows {
    fn new(x: &[f32], inner: usize, most: usize) -> Self {
        let count = x.len() / inner;
        // As even as can be.
        let group = count.div_ceil(count.div_ceil(most).max(1)).max(1);
        let mut entries = HELD.take();
        if entries.len() < x.len() {
            entries.resize(x.len(), 0.0);
        }
        let (size, all) = (group * inner, &mut entries[..x.len()]);
        match x.len() <= SMALL {
            true => all.chunks_mut(size).zip(x.chunks(size)).for_each(|(entries, x)| side_by_side(entries, x, inner)),
            false => all.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(entries, x)| side_by_side(entries, x, inner)),
        }
        Rows { count, inner, group, entries }
    }

    /// The rows of some groups.
    fn block(&self) -> usize {
        let groups = self.count.div_ceil(self.group);
        let most = (BLOCK / (4 * self.inner * self.group)).max(1);
        groups.div_ceil(groups.div_ceil(most).max(1)).max(1) * self.group
    }

    /// The groups, some at a time.
    fn blocks(&self) -> impl Iterator<Item = &[f32]> {
        self.entries[..self.count * self.inner].chunks(self.block() * self.inner)
    }
}

/// Puts the entries of a group of rows side by side, input by input.
fn side_by_side(entries: &mut [f32], x: &[f32], inner: usize) {
    fn put<const M: usize>(entries: &mut [f32], x: &[f32], inner: usize) {
        let rows: [&[f32]; M] = std::array::from_fn(|row| &x[row * inner..(row + 1) * inner]);
        let whole = rows.map(|row| row.as_chunks::<16>().0);
        let entries = entries.as_chunks_mut::<M>().0;
        // Entry by entry: `map` over an array of rows may be a call that is handed a copy of all of them.
        for (at, entries) in entries.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let some = whole.map(|row| &row[at]);
            for (input, entries) in entries.iter_mut().enumerate() {
                entries.iter_mut().zip(some).for_each(|(entry, row)| *entry = row[input]);
            }
        }
        for (input, entries) in entries.iter_mut().enumerate().skip(inner / 16 * 16) {
            entries.iter_mut().zip(rows).for_each(|(entry, row)| *entry = row[input]);
        }
    }
    for_height!(x.len() / inner, M => put::<M>(entries, x, inner));
}

/// Some panels for some groups of rows.
struct Task<'a> {
    x: &'a [f32],
    /// The rows of a group.
    group: usize,
    matrix: &'a Panels,
    /// The first panel.
    first: usize,
    /// The outputs.
    y: Columns<'a, MaybeUninit<f32>>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (width, rows, outputs) = (2 * S::F32_LANES, self.y.rows(), self.y.width());
        let zero = [simd.splat_f32s(0.0); 2];
        let mut held = SUMS.take();
        held.resize(held.len().max(size_of_val(&zero) * rows * TOGETHER / size_of::<Line>()), Line::zeroed());
        let sums = &mut bytemuck::cast_slice_mut::<_, [S::f32s; 2]>(&mut held)[..rows * TOGETHER];
        for first in (0..outputs).step_by(TOGETHER * width) {
            let columns = first..outputs.min(first + TOGETHER * width);
            for (index, sums) in sums.chunks_mut(rows).take(columns.len().div_ceil(width)).enumerate() {
                sums.fill(zero);
                self.panel(simd, self.first + first / width + index, sums);
            }
            for row in 0..rows {
                for (y, sums) in self.y.row(row)[columns.clone()].chunks_mut(width).zip(sums[row..].iter().step_by(rows)) {
                    match S::as_uninit_mut_simd_f32s(y) {
                        ([low, high], []) => {
                            low.write(sums[0]);
                            high.write(sums[1]);
                        }
                        _ => {
                            y.write_copy_of_slice(&bytemuck::cast_slice(sums)[..y.len()]);
                        }
                    }
                }
            }
        }
        SUMS.set(held);
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
            match self.matrix.encoding {
                Encoding::F32 => self.portion(simd, inputs, F32, words, sums),
                Encoding::Bf16 => self.portion(simd, inputs, Bf16, words, sums),
                Encoding::F16 => self.portion(simd, inputs, F16, words, sums),
                Encoding::Q8 => self.portion(simd, inputs, Q8::<S>::new(scales), words, sums),
                Encoding::Q4 => self.portion(simd, inputs, Q4::<S>::new(scales, offsets), words, sums),
            }
        }
    }

    /// Adds the products of some inputs' weights with all rows.
    #[inline(always)]
    fn portion<S: Simd, W: Dequantize<S>>(&self, simd: S, inputs: Range<usize>, format: W, words: &[u32], sums: &mut [[S::f32s; 2]]) {
        let turns = sums.len().div_ceil(self.group);
        for (index, (x, sums)) in self.x.chunks(self.group * self.matrix.inner).zip(sums.chunks_mut(self.group)).enumerate() {
            let ahead = Ahead { turn: index, turns };
            let x = &x[inputs.start * sums.len()..inputs.end * sums.len()];
            for_height!(sums.len(), M => add::<S, W, M>(simd, x, format, words, ahead, sums));
        }
    }
}
