//! Numbers by a formula that `tests/reference/make_precision.py` computes too.

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

/// Numbers from 0 to 1, by splitmix64.
pub fn uniform(seed: u64, count: usize) -> impl Iterator<Item = f64> {
    (0..count as u64).map(move |at| {
        let mut z = at.wrapping_add(seed.wrapping_mul(1_000_003)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 40) as f64 / f64::from(1 << 24)
    })
}

/// About normal: four uniform numbers added up.
pub fn normal(seed: u64, shape: &[usize], scale: f64, shift: f64) -> Candle {
    let count = shape.iter().product::<usize>();
    let quarters = uniform(seed, 4 * count).collect::<Vec<_>>();
    let numbers = quarters.chunks_exact(4).map(|x| (((x[0] + x[1] + x[2] + x[3] - 2.0) * 1.75) * scale + shift) as f32);
    Candle::from_vec(numbers.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

/// From 0.05 to 1.05 times `scale`.
pub fn positive(seed: u64, shape: &[usize], scale: f64) -> Candle {
    let numbers = uniform(seed, shape.iter().product()).map(|x| ((x + 0.05) * scale) as f32);
    Candle::from_vec(numbers.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

/// Whole numbers below `size`.
pub fn indices(seed: u64, count: usize, size: usize) -> Vec<i64> {
    uniform(seed, count).map(|x| (x * size as f64) as i64).collect()
}
