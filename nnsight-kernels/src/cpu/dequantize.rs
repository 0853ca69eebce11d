//! What a word of weights holds, as numbers in registers.

use pulp::Simd;

use super::panels::ZERO;

/// An encoding of weights.
pub trait Dequantize<S: Simd>: Copy {
    /// The bits of a weight.
    const BITS: u32;

    /// The weights in the lowest bits of two vectors of words.
    fn dequantize(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2];
}

/// `f32`.
#[derive(Clone, Copy)]
pub struct F32;

impl<S: Simd> Dequantize<S> for F32 {
    const BITS: u32 = 32;

    #[inline(always)]
    fn dequantize(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2] {
        [simd.transmute_f32s_u32s(words[0]), simd.transmute_f32s_u32s(words[1])]
    }
}

/// The upper half of an `f32`.
#[derive(Clone, Copy)]
pub struct Bf16;

impl<S: Simd> Dequantize<S> for Bf16 {
    const BITS: u32 = 16;

    #[inline(always)]
    fn dequantize(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2] {
        let upper = simd.splat_u32s(16);
        F32.dequantize(simd, [simd.wrapping_dyn_shl_u32s(words[0], upper), simd.wrapping_dyn_shl_u32s(words[1], upper)])
    }
}

/// `f16`.
#[derive(Clone, Copy)]
pub struct F16;

impl<S: Simd> Dequantize<S> for F16 {
    const BITS: u32 = 16;

    #[inline(always)]
    fn dequantize(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2] {
        [f16(simd, words[0]), f16(simd, words[1])]
    }
}

/// The `f16` in the lower halves of words. Its bits mean 2¹¹² times less as those of an `f32`, also those of a subnormal number.
#[inline(always)]
fn f16<S: Simd>(simd: S, words: S::u32s) -> S::f32s {
    let size = simd.wrapping_dyn_shl_u32s(simd.and_u32s(words, simd.splat_u32s(0x7fff)), simd.splat_u32s(13));
    let sign = simd.wrapping_dyn_shl_u32s(simd.and_u32s(words, simd.splat_u32s(0x8000)), simd.splat_u32s(16));
    let size = simd.mul_f32s(simd.transmute_f32s_u32s(size), simd.splat_f32s(f32::from_bits((127 + 112) << 23)));
    simd.transmute_f32s_u32s(simd.or_u32s(simd.transmute_u32s_f32s(size), sign))
}

/// A whole number of eight bits, in units of a scale for every output.
#[derive(Clone, Copy)]
pub struct Q8<S: Simd> {
    scales: [S::f32s; 2],
}

impl<S: Simd> Q8<S> {
    /// With the scales of a panel's outputs.
    #[inline(always)]
    pub fn new(scales: &[f32]) -> Self {
        Q8 { scales: two::<S>(scales) }
    }
}

impl<S: Simd> Dequantize<S> for Q8<S> {
    const BITS: u32 = 8;

    #[inline(always)]
    fn dequantize(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2] {
        let codes = [codes(simd, words[0], 255, ZERO), codes(simd, words[1], 255, ZERO)];
        [simd.mul_f32s(codes[0], self.scales[0]), simd.mul_f32s(codes[1], self.scales[1])]
    }
}

/// A whole number of four bits, in units of a scale from an offset on.
#[derive(Clone, Copy)]
pub struct Q4<S: Simd> {
    scales: [S::f32s; 2],
    offsets: [S::f32s; 2],
}

impl<S: Simd> Q4<S> {
    /// With the scales and the offsets of a panel's outputs.
    #[inline(always)]
    pub fn new(scales: &[f32], offsets: &[f32]) -> Self {
        Q4 { scales: two::<S>(scales), offsets: two::<S>(offsets) }
    }
}

impl<S: Simd> Dequantize<S> for Q4<S> {
    const BITS: u32 = 4;

    #[inline(always)]
    fn dequantize(self, simd: S, words: [S::u32s; 2]) -> [S::f32s; 2] {
        let codes = [codes(simd, words[0], 15, 0), codes(simd, words[1], 15, 0)];
        [simd.mul_add_e_f32s(codes[0], self.scales[0], self.offsets[0]), simd.mul_add_e_f32s(codes[1], self.scales[1], self.offsets[1])]
    }
}

/// The numbers in the lowest bits of words, less the code for zero.
#[inline(always)]
fn codes<S: Simd>(simd: S, words: S::u32s, bits: u32, zero: u32) -> S::f32s {
    /// 2²³, whose last bits count ones.
    const WHOLE: f32 = 8_388_608.0;
    let numbers = simd.or_u32s(simd.and_u32s(words, simd.splat_u32s(bits)), simd.splat_u32s(WHOLE.to_bits()));
    simd.sub_f32s(simd.transmute_f32s_u32s(numbers), simd.splat_f32s(WHOLE + zero as f32))
}

#[inline(always)]
fn two<S: Simd>(entries: &[f32]) -> [S::f32s; 2] {
    let (vectors, _) = S::as_simd_f32s(entries);
    [vectors[0], vectors[1]]
}
