//! Matrices in the layout that products read: panels of some outputs, in each of which the weights of one input are next to each other.
//!
//! A panel is as wide as two vectors of the processor. A product reads it from the first input to the last and holds its outputs in
//! registers; no entry is read twice for up to fourteen rows, and nothing is repacked.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Inputs that share a scale, if weights are quantised.
pub const GROUP: usize = 32;

/// Inputs whose products are added up by themselves: the sum of many numbers one after the other loses more than that of such sums.
const PORTION: usize = 144;

/// A matrix from `inner` inputs to `outer` outputs.
#[derive(Debug)]
pub struct Panels {
    pub inner: usize,
    pub outer: usize,
    /// Outputs of a panel; what the last one has too many is zero.
    pub width: usize,
    pub encoding: Encoding,
    /// Panel by panel, input by input, output by output. A word holds the weights of as many inputs as it has bits for, the first in the lowest.
    words: Vec<Line>,
    /// One for every output of a group, if weights are quantised.
    scales: Vec<f32>,
    /// The value of the code zero, likewise, if that is not zero.
    offsets: Vec<f32>,
}

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// An `f32`.
    F32,
    /// The upper halves of two.
    Bf16,
    /// Two of `f16`.
    F16,
    /// Four codes, from [`ZERO`] on, in units of a scale.
    Q8,
    /// Eight codes, in units of a scale from an offset on.
    Q4,
}

/// The code of zero in a byte.
pub const ZERO: u32 = 128;

impl Encoding {
    /// The inputs whose weights are in a word.
    #[inline(always)]
    pub fn inputs(self) -> usize {
        match self {
            Encoding::F32 => 1,
            Encoding::Bf16 | Encoding::F16 => 2,
            Encoding::Q8 => 4,
            Encoding::Q4 => 8,
        }
    }
}

/// Some inputs' weights of a panel.
pub struct Weights<'a> {
    pub words: &'a [u32],
    /// Of the outputs, if weights are quantised.
    pub scales: &'a [f32],
    pub offsets: &'a [f32],
}

/// Sixteen words on a boundary of the cache, so that no vector crosses two of its lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Line([u32; 16]);

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
        let mut words = vec![Line::zeroed(); (outer.div_ceil(width) * size).div_ceil(16)];
        let entries = bytemuck::cast_slice_mut::<_, f32>(&mut words);
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
        Panels { inner, outer, width, encoding: Encoding::F32, words, scales: Vec::new(), offsets: Vec::new() }
    }

    /// In fewer bits. The inner size must be a multiple of [`GROUP`].
    pub fn pack(&self, encoding: Encoding) -> Self {
        let (width, size) = (self.width, GROUP * self.width);
        let groups = self.outer.div_ceil(width) * self.inner / GROUP;
        let mut words = vec![Line::zeroed(); (groups * size / encoding.inputs()).div_ceil(16)];
        let mut scales = vec![0f32; if matches!(encoding, Encoding::Q8 | Encoding::Q4) { groups * width } else { 0 }];
        let mut offsets = vec![0f32; if encoding == Encoding::Q4 { groups * width } else { 0 }];
        let of_group = bytemuck::cast_slice_mut::<_, u32>(&mut words).chunks_exact_mut(size / encoding.inputs());
        for ((group, words), index) in self.entries().chunks_exact(size).zip(of_group).zip(0..) {
            let outputs = index * width..(index + 1) * width;
            match encoding {
                Encoding::F32 => put(words, group, encoding, width, |_, entry| entry.to_bits()),
                Encoding::Bf16 => put(words, group, encoding, width, |_, entry| u32::from(half::bf16::from_f32(entry).to_bits())),
                Encoding::F16 => put(words, group, encoding, width, |_, entry| u32::from(half::f16::from_f32(entry).to_bits())),
                Encoding::Q8 => {
                    let scales = &mut scales[outputs];
                    for (output, scale) in scales.iter_mut().enumerate() {
                        *scale = column(group, width, output).fold(0f32, |most, entry| most.max(entry.abs())) / 127.0;
                    }
                    put(words, group, encoding, width, |output, entry| (rounded(entry, scales[output]) as i32 + ZERO as i32) as u32);
                }
                Encoding::Q4 => {
                    let (scales, offsets) = (&mut scales[outputs.clone()], &mut offsets[outputs]);
                    for (output, (scale, offset)) in scales.iter_mut().zip(offsets.iter_mut()).enumerate() {
                        *offset = column(group, width, output).fold(f32::MAX, f32::min);
                        *scale = (column(group, width, output).fold(f32::MIN, f32::max) - *offset) / 15.0;
                    }
                    put(words, group, encoding, width, |output, entry| rounded(entry - offsets[output], scales[output]) as u32);
                }
            }
        }
        Panels { encoding, words, scales, offsets, ..*self }
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
        let inputs = self.encoding.inputs();
        for (group, row) in row.chunks_mut(GROUP).enumerate() {
            let Weights { words, scales, offsets } = self.weights(panel, group * GROUP..group * GROUP + row.len(), self.width);
            for (row, &word) in row.chunks_mut(inputs).zip(words[at..].iter().step_by(self.width)) {
                for (index, entry) in row.iter_mut().enumerate() {
                    *entry = match self.encoding {
                        Encoding::F32 => f32::from_bits(word),
                        Encoding::Bf16 => f32::from_bits(word >> (16 * index) << 16),
                        Encoding::F16 => half::f16::from_bits((word >> (16 * index)) as u16).to_f32(),
                        Encoding::Q8 => ((word >> (8 * index) & 255) as f32 - ZERO as f32) * scales[at],
                        Encoding::Q4 => ((word >> (4 * index) & 15) as f32).mul_add(scales[at], offsets[at]),
                    };
                }
            }
        }
    }

    /// Whether an entry in `f16` is infinite or NaN, which products would take for a large number.
    pub fn overflows(&self) -> bool {
        let overflows = |bits: u32| bits & 0x7c00 == 0x7c00;
        let words = bytemuck::cast_slice::<_, u32>(&self.words);
        self.encoding == Encoding::F16 && words.par_chunks(1 << 16).any(|words| words.iter().any(|&word| overflows(word) || overflows(word >> 16)))
    }

    /// Whether the entries are `f32`.
    pub fn is_plain(&self) -> bool {
        self.encoding == Encoding::F32
    }

    /// The entries of all panels, if they are `f32`.
    pub fn entries(&self) -> &[f32] {
        match self.encoding {
            Encoding::F32 => bytemuck::cast_slice(&self.words),
            _ => &[],
        }
    }

    /// Inputs whose products are added up by themselves: those of a group if they share a scale.
    #[inline(always)]
    pub fn portion(&self) -> usize {
        match self.encoding {
            Encoding::F32 | Encoding::Bf16 | Encoding::F16 => PORTION,
            Encoding::Q8 | Encoding::Q4 => GROUP,
        }
    }

    /// The weights of some inputs of a panel: of one group's at most, if they share a scale.
    ///
    /// `width` is that of the panels, given once more for the compiler to know it.
    #[inline(always)]
    pub fn weights(&self, panel: usize, inputs: Range<usize>, width: usize) -> Weights<'_> {
        let start = panel * self.inner + inputs.start;
        let held = self.encoding.inputs();
        let group = start / GROUP * width..start / GROUP * width + width;
        Weights {
            words: &bytemuck::cast_slice(&self.words)[start / held * width..(start + inputs.len()) / held * width],
            scales: self.scales.get(group.clone()).unwrap_or(&[]),
            offsets: self.offsets.get(group).unwrap_or(&[]),
        }
    }
}

/// Puts the codes of a group's weights into words.
fn put(words: &mut [u32], group: &[f32], encoding: Encoding, width: usize, code: impl Fn(usize, f32) -> u32) {
    let inputs = encoding.inputs();
    for (words, entries) in words.chunks_exact_mut(width).zip(group.chunks_exact(inputs * width)) {
        for (input, entries) in entries.chunks_exact(width).enumerate() {
            for (output, (word, &entry)) in words.iter_mut().zip(entries).enumerate() {
                *word |= code(output, entry) << (32 / inputs * input);
            }
        }
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
    fn packing_loses_nothing() {
        for (outer, inner) in [(1, 1), (7, 33), (32, 16), (65, 96)] {
            let rows = rows(outer, inner);
            assert_eq!(Panels::new(&rows, inner).rows(), rows);
        }
    }

    #[test]
    fn fewer_bits_hold_about_the_same_and_hold_it_exactly() {
        let rows = rows(41, 96);
        for (format, bound) in [(Encoding::Bf16, 0.005), (Encoding::F16, 0.001), (Encoding::Q8, 0.005), (Encoding::Q4, 0.07)] {
            let held = Panels::new(&rows, 96).pack(format).rows();
            assert!(difference(&held, &rows) < bound, "{format:?}: {}", difference(&held, &rows));
            let again = Panels::new(&held, 96).pack(format).rows();
            assert!(difference(&again, &held) < 1e-6, "{format:?}: {}", difference(&again, &held));
        }
    }
}
