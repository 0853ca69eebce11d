//! What the machine itself can do: how fast it multiplies and how fast it reads.

use std::hint::black_box;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::Result;
use crate::figure::several;

/// The limits of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Multiplications and additions per second in a large product, in units of 10⁹.
    pub gflops: f64,
    /// Bytes per second read from memory by all threads, in units of 10⁹.
    pub gigabytes: f64,
}

impl Limits {
    /// Measures them.
    ///
    /// # Errors
    /// Where a product fails.
    pub fn measure() -> Result<Self> {
        let size = 2048;
        let matrix = Tensor::randn(0f32, 1.0, (size, size), &Device::Cpu)?;
        let product = several(5, || Ok(matrix.matmul(&matrix).map(black_box).map(drop)?))?;
        let memory = vec![1f32; 1 << 27];
        let read = several(5, || {
            let sums = memory.par_chunks(1 << 17).map(|chunk| {
                let mut sums = [0f32; 64];
                chunk.as_chunks::<64>().0.iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, entry)| *sum += entry));
                sums.iter().sum::<f32>()
            });
            black_box(sums.sum::<f32>());
            Ok(())
        })?;
        Ok(Limits { gflops: 2.0 * (size as f64).powi(3) / product / 1e6, gigabytes: 4.0 * memory.len() as f64 / read / 1e6 })
    }

    /// The least time in milliseconds of a pass that multiplies each of some weights with so many positions, and reads it once.
    pub fn pass(&self, weights: usize, positions: usize) -> f64 {
        let product = 2.0 * weights as f64 * positions as f64 / self.gflops / 1e6;
        product.max(4.0 * weights as f64 / self.gigabytes / 1e6)
    }
}
