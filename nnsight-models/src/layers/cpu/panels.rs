//! Matrices in the layout that products want: panels of some outputs, in each of which the weights of one input stand side by side.
//!
//! A panel is as wide as two vectors of the processor. A product reads it from the first input to the last and holds its outputs in
//! registers; no entry is read twice for up to fourteen rows, and nothing is repacked.

use bytemuck::{Pod, Zeroable};
use half::bf16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::layers::WeightFormat;

/// Inputs that have a scale in common, where weights are held in fewer bits.
pub const GROUP: usize = 32;

/// As many outputs as the widest panel has.
pub const WIDEST: usize = 32;

/// A matrix from `inner` inputs to `outer` outputs.
#[derive(Debug)]
pub struct Panels {
    pub inner: usize,
    pub outer: usize,
    /// Outputs of a panel; what the last one has too many is zero.
    pub width: usize,
    store: Store,
}

/// The entries: panel by panel, input by input, output by output.
#[derive(Debug)]
enum Store {
    F32(Vec<Line>),
    Bf16(Vec<bf16>),
    /// A scale for every output of a group.
    Q8 {
        codes: Vec<i8>,
        scales: Vec<f32>,
    },
    /// Two outputs in a byte, half a panel apart; a scale and an offset for every output of a group.
    Q4 {
        codes: Vec<u8>,
        scales: Vec<f32>,
        offsets: Vec<f32>,
    },
}

/// Sixteen entries on a boundary of the cache, so that no vector lies across two of its lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Line([f32; 16]);

/// Outputs of a panel on this processor.
pub fn width() -> usize {
    struct Width;
    impl WithSimd for Width {
        type Output = usize;
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            2 * S::F32_LANES
        }
    }
    Arch::new().dispatch(Width)
}

impl Panels {
    /// From rows, `(outer, inner)`.
    pub fn new(rows: &[f32], inner: usize) -> Self {
        let (outer, width) = (rows.len() / inner, width());
        let size = inner * width;
        let mut lines = vec![Line::zeroed(); (outer.div_ceil(width) * size).div_ceil(16)];
        let entries = bytemuck::cast_slice_mut::<_, f32>(&mut lines);
        entries.par_chunks_mut(size).zip(rows.par_chunks(size)).for_each(|(panel, rows)| {
            // A few inputs of all rows at a time: what is read and what is written stays in the cache.
            for first in (0..inner).step_by(16) {
                for (output, row) in rows.chunks(inner).enumerate() {
                    for (at, &entry) in row[first..inner.min(first + 16)].iter().enumerate() {
                        panel[(first + at) * width + output] = entry;
                    }
                }
            }
        });
        Panels { inner, outer, width, store: Store::F32(lines) }
    }

    /// In fewer bits. The inner size must be a multiple of [`GROUP`].
    pub fn pack(&self, format: WeightFormat) -> Self {
        let width = self.width;
        let panels = (0..self.outer.div_ceil(width)).map(|panel| self.chunk_plain(panel, 0..self.inner));
        let groups = panels.flat_map(|panel| panel.chunks_exact(GROUP * width)).collect::<Vec<_>>();
        let store = match format {
            WeightFormat::Bf16 => Store::Bf16(groups.iter().flat_map(|group| group.iter().copied().map(bf16::from_f32)).collect()),
            WeightFormat::Q8_0 => {
                let packed = groups.par_iter().map(|group| {
                    let scales = (0..width).map(|output| column(group, width, output).fold(0f32, |most, entry| most.max(entry.abs())) / 127.0);
                    let scales = scales.collect::<Vec<_>>();
                    let code = |(at, entry): (usize, &f32)| rounded(*entry, scales[at % width]) as i8;
                    (group.iter().enumerate().map(code).collect::<Vec<_>>(), scales)
                });
                let (codes, scales): (Vec<_>, Vec<_>) = packed.unzip();
                Store::Q8 { codes: codes.concat(), scales: scales.concat() }
            }
            WeightFormat::Q4_1 => {
                let packed = groups.par_iter().map(|group| {
                    let (mut scales, mut offsets) = (Vec::with_capacity(width), Vec::with_capacity(width));
                    for output in 0..width {
                        let least = column(group, width, output).fold(f32::MAX, f32::min);
                        scales.push((column(group, width, output).fold(f32::MIN, f32::max) - least) / 15.0);
                        offsets.push(least);
                    }
                    let code = |input: usize, output: usize| rounded(group[input * width + output] - offsets[output], scales[output]) as u8;
                    let half = width / 2;
                    let pair = |at: usize| code(at / half, at % half) | code(at / half, at % half + half) << 4;
                    ((0..GROUP * half).map(pair).collect::<Vec<_>>(), (scales, offsets))
                });
                let (codes, (scales, offsets)): (Vec<_>, (Vec<_>, Vec<_>)) = packed.unzip();
                Store::Q4 { codes: codes.concat(), scales: scales.concat(), offsets: offsets.concat() }
            }
        };
        Panels { store, ..*self }
    }

    /// The rows, `(outer, inner)`.
    pub fn rows(&self) -> Vec<f32> {
        let mut rows = vec![0f32; self.outer * self.inner];
        rows.par_chunks_mut(self.inner).enumerate().for_each(|(output, row)| {
            self.copy_row(output, row);
        });
        rows
    }

    /// Copies a row.
    pub fn copy_row(&self, output: usize, row: &mut [f32]) {
        let (panel, at) = (output / self.width, output % self.width);
        let mut widened = [0f32; GROUP * WIDEST];
        for (group, row) in row.chunks_mut(GROUP).enumerate() {
            let inputs = group * GROUP..group * GROUP + row.len();
            let chunk = self.chunk(panel, inputs, self.width, &mut widened);
            row.iter_mut().zip(chunk[at..].iter().step_by(self.width)).for_each(|(entry, &held)| *entry = held);
        }
    }

    /// Whether the entries are `f32`, so that any number of inputs is had at once.
    pub fn is_plain(&self) -> bool {
        matches!(self.store, Store::F32(_))
    }

    /// The entries of some inputs of a panel of a matrix in `f32`.
    #[inline(always)]
    pub fn chunk_plain(&self, panel: usize, inputs: std::ops::Range<usize>) -> &[f32] {
        match &self.store {
            Store::F32(lines) => {
                let start = panel * self.inner * self.width;
                &bytemuck::cast_slice(lines)[start + inputs.start * self.width..start + inputs.end * self.width]
            }
            _ => &[],
        }
    }

    /// The entries of some inputs of a panel: of all of them, where the matrix is in `f32`; else of one group, which is widened.
    ///
    /// `width` is that of the panels, given once more for the compiler to know it.
    #[inline(always)]
    pub fn chunk<'a>(&'a self, panel: usize, inputs: std::ops::Range<usize>, width: usize, widened: &'a mut [f32; GROUP * WIDEST]) -> &'a [f32] {
        let start = panel * self.inner + inputs.start;
        let entries = start * width..(start + inputs.len()) * width;
        let scales_at = start / GROUP * width..start / GROUP * width + width;
        match &self.store {
            Store::F32(_) => return self.chunk_plain(panel, inputs),
            Store::Bf16(all) => {
                for (wide, narrow) in widened.iter_mut().zip(&all[entries.clone()]) {
                    *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
                }
            }
            Store::Q8 { codes, scales } => {
                let scales = &scales[scales_at];
                for (wide, codes) in widened.chunks_exact_mut(width).zip(codes[entries.clone()].chunks_exact(width)) {
                    for ((wide, code), scale) in wide.iter_mut().zip(codes).zip(scales) {
                        *wide = f32::from(*code) * scale;
                    }
                }
            }
            Store::Q4 { codes, scales, offsets } => {
                let half = width / 2;
                let (low, high) = scales[scales_at.clone()].split_at(half);
                let (low_offset, high_offset) = offsets[scales_at].split_at(half);
                let codes = codes[entries.start / 2..entries.end / 2].chunks_exact(half);
                for (wide, codes) in widened.chunks_exact_mut(width).zip(codes) {
                    let (wide_low, wide_high) = wide.split_at_mut(half);
                    for at in 0..half {
                        wide_low[at] = f32::from(codes[at] & 15) * low[at] + low_offset[at];
                        wide_high[at] = f32::from(codes[at] >> 4) * high[at] + high_offset[at];
                    }
                }
            }
        }
        &widened[..entries.len()]
    }
}

/// The entries of one output in a group.
fn column(group: &[f32], width: usize, output: usize) -> impl Iterator<Item = f32> {
    group[output..].iter().step_by(width).copied()
}

/// How many times the scale goes into an entry.
fn rounded(entry: f32, scale: f32) -> f32 {
    match scale {
        0.0 => 0.0,
        _ => (entry / scale).round(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(outer: usize, inner: usize) -> Vec<f32> {
        (0..outer * inner).map(|at| ((at * 7919) % 1009) as f32 / 500.0 - 1.0).collect()
    }

    fn difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_matrix_is_had_back() {
        for (outer, inner) in [(1, 1), (7, 33), (32, 16), (65, 96)] {
            let rows = rows(outer, inner);
            assert_eq!(Panels::new(&rows, inner).rows(), rows);
        }
    }

    #[test]
    fn fewer_bits_hold_about_the_same_and_hold_it_exactly() {
        let rows = rows(41, 96);
        for (format, bound) in [(WeightFormat::Bf16, 0.005), (WeightFormat::Q8_0, 0.005), (WeightFormat::Q4_1, 0.07)] {
            let held = Panels::new(&rows, 96).pack(format).rows();
            assert!(difference(&held, &rows) < bound, "{format:?}: {}", difference(&held, &rows));
            let again = Panels::new(&held, 96).pack(format).rows();
            assert!(difference(&again, &held) < 1e-6, "{format:?}: {}", difference(&again, &held));
        }
    }
}
