//! The product with matrices in panels.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytemuck::Zeroable;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::SMALL;
use super::columns::Columns;
use super::panels::{Form, Line, Panels, Weights};
use super::widen::{Bytes, F16, Float, Halves, Nibbles, Widen};

/// Rows of the input that are held in registers at once, where there are thirty-two of those; else [`FEWER`].
const MOST: usize = 14;

/// As [`MOST`] with sixteen registers.
const FEWER: usize = 6;

/// Bytes of the input that a task takes at most: what stays in the cache next to a panel.
const BLOCK: usize = 1 << 19;

/// Panels whose results are written together: as many rows as a task has lie too far apart for each to be written a little at a time.
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
pub fn products(x: &[f32], matrices: &[&Panels]) -> Vec<Vec<f32>> {
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
        for (x, result) in rows.blocks().zip(result.chunks_mut(rows.block() * matrix.outer)) {
            let parts = Columns::of(result, matrix.outer, outputs).enumerate();
            all.extend(parts.map(|(index, y)| Task { x, group: rows.group, matrix, first: index * panels, y }));
        }
    }
    // One by one: a thread that is held up leaves its tasks to the others.
    all.into_par_iter().with_max_len(1).for_each(|task| arch.dispatch(task));
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
    /// May be longer.
    entries: Vec<f32>,
}

thread_local! {
    /// What the last input was held in, for the next one: it lies in the cache.
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
        for (at, entries) in entries.chunks_exact_mut(16).enumerate() {
            let some = whole.map(|row| row[at]);
            entries.iter_mut().enumerate().for_each(|(input, entries)| *entries = some.map(|row| row[input]));
        }
        for (input, entries) in entries.iter_mut().enumerate().skip(inner / 16 * 16) {
            *entries = rows.map(|row| row[input]);
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
            match self.matrix.form {
                Form::Float => self.portion(simd, inputs, Float, words, sums),
                Form::Halves => self.portion(simd, inputs, Halves, words, sums),
                Form::F16 => self.portion(simd, inputs, F16, words, sums),
                Form::Bytes => self.portion(simd, inputs, Bytes::<S>::new(scales), words, sums),
                Form::Nibbles => self.portion(simd, inputs, Nibbles::<S>::new(scales, offsets), words, sums),
            }
        }
    }

    /// Adds the products of some inputs' weights with all rows.
    #[inline(always)]
    fn portion<S: Simd, W: Widen<S>>(&self, simd: S, inputs: Range<usize>, form: W, words: &[u32], sums: &mut [[S::f32s; 2]]) {
        let turns = sums.len().div_ceil(self.group);
        for (index, (x, sums)) in self.x.chunks(self.group * self.matrix.inner).zip(sums.chunks_mut(self.group)).enumerate() {
            let ahead = Ahead { turn: index, turns };
            let x = &x[inputs.start * sums.len()..inputs.end * sums.len()];
            for_height!(sums.len(), M => add::<S, W, M>(simd, x, form, words, ahead, sums));
        }
    }
}

/// Which of the words that are read memory is asked for what lies behind: that at a group's turn, of as many as there are groups, for each of them
/// reads all.
#[derive(Clone, Copy)]
pub struct Ahead {
    turn: usize,
    turns: usize,
}

/// Nothing lies behind that will be read.
pub const NOTHING: Ahead = Ahead { turn: usize::MAX, turns: usize::MAX };

/// Adds the products of some inputs, of which `x` has `M` entries each, and their weights.
#[inline(always)]
pub fn add<S: Simd, W: Widen<S>, const M: usize>(simd: S, x: &[f32], form: W, words: &[u32], ahead: Ahead, sums: &mut [[S::f32s; 2]]) {
    let Some(sums) = sums.first_chunk_mut::<M>() else { return };
    let (vectors, _) = S::as_simd_u32s(words);
    // By themselves: the sum of many numbers one after the other loses more than that of such sums.
    let mut some = [[simd.splat_f32s(0.0); 2]; M];
    let inputs = (32 / W::BITS) as usize;
    let (x, words) = (x.as_chunks::<M>().0, vectors.as_chunks::<2>().0);
    if ahead.turns == 1 {
        for (x, words) in x.chunks_exact(inputs).zip(words) {
            prefetch(words);
            add_some(simd, x, form, *words, &mut some);
        }
    } else {
        for (x, words) in x.chunks(ahead.turns.saturating_mul(inputs)).zip(words.chunks(ahead.turns)) {
            if let Some(words) = words.get(ahead.turn) {
                prefetch(words);
            }
            for (x, words) in x.chunks_exact(inputs).zip(words) {
                add_some(simd, x, form, *words, &mut some);
            }
        }
    }
    for row in 0..M {
        sums[row][0] = simd.add_f32s(sums[row][0], some[row][0]);
        sums[row][1] = simd.add_f32s(sums[row][1], some[row][1]);
    }
}

/// Adds the products with the weights in two vectors of words.
#[inline(always)]
fn add_some<S: Simd, W: Widen<S>, const M: usize>(simd: S, x: &[[f32; M]], form: W, mut words: [S::u32s; 2], sums: &mut [[S::f32s; 2]; M]) {
    for x in x {
        let weights = form.widen(simd, words);
        for row in 0..M {
            let entry = simd.splat_f32s(x[row]);
            sums[row][0] = simd.mul_add_e_f32s(entry, weights[0], sums[row][0]);
            sums[row][1] = simd.mul_add_e_f32s(entry, weights[1], sums[row][1]);
        }
        if W::BITS < 32 {
            let bits = simd.splat_u32s(W::BITS);
            words = [simd.wrapping_dyn_shr_u32s(words[0], bits), simd.wrapping_dyn_shr_u32s(words[1], bits)];
        }
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
        let (address, all) = (start.addr(), PAGES * PAGE);
        // Lines that follow each other are asked for in pages that follow each other.
        let line = address / 64 % (all / 64);
        let far = all - address % all + line % PAGES * PAGE + line / PAGES * 64;
        for at in 0..size_of_val(weights) / 64 {
            // SAFETY: a prefetch reads nothing: any address may be asked for.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(NEAR + at * 64));
                _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(far + at * PAGE));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = weights;
}
