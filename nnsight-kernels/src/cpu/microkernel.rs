//! The innermost loop of products: some rows of the input with the weights of a panel, whose results stay in registers.

use pulp::Simd;

use super::dequantize::Dequantize;
use super::prefetch::prefetch;

/// At which words memory is asked for the next ones. Every group of rows reads all words of a panel, and asks at every `turns`-th, from `turn` on.
#[derive(Clone, Copy)]
pub struct Ahead {
    pub turn: usize,
    pub turns: usize,
}

/// Nowhere: nothing more will be read.
pub const NOTHING: Ahead = Ahead { turn: usize::MAX, turns: usize::MAX };

/// Adds the products of some inputs, of which `x` has `M` entries each, and their weights.
#[inline(always)]
pub fn add<S: Simd, W: Dequantize<S>, const M: usize>(simd: S, x: &[f32], format: W, words: &[u32], ahead: Ahead, sums: &mut [[S::f32s; 2]]) {
    let Some(sums) = sums.first_chunk_mut::<M>() else { return };
    let (vectors, _) = S::as_simd_u32s(words);
    // By themselves: the sum of many numbers one after the other loses more than that of such sums.
    let mut some = [[simd.splat_f32s(0.0); 2]; M];
    let inputs = (32 / W::BITS) as usize;
    let (x, words) = (x.as_chunks::<M>().0, vectors.as_chunks::<2>().0);
    if ahead.turns == 1 {
        for (x, words) in x.chunks_exact(inputs).zip(words) {
            prefetch(words);
            add_some(simd, x, format, *words, &mut some);
        }
    } else {
        for (x, words) in x.chunks(ahead.turns.saturating_mul(inputs)).zip(words.chunks(ahead.turns)) {
            if let Some(words) = words.get(ahead.turn) {
                prefetch(words);
            }
            for (x, words) in x.chunks_exact(inputs).zip(words) {
                add_some(simd, x, format, *words, &mut some);
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
fn add_some<S: Simd, W: Dequantize<S>, const M: usize>(simd: S, x: &[[f32; M]], format: W, mut words: [S::u32s; 2], sums: &mut [[S::f32s; 2]; M]) {
    for x in x {
        let weights = format.dequantize(simd, words);
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
