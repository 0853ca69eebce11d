//! Random numbers of a graph. The generator is named, so that the same seed returns the same numbers with every version of this library.

use candle_core::{DType, Result, Tensor};
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// Numbers from the standard normal distribution, in the shape of `like`.
///
/// # Errors
/// If the device fails.
pub(super) fn normal(like: &Tensor, seed: u64, dtype: DType) -> Result<Tensor> {
    let generator = ChaCha12Rng::seed_from_u64(seed);
    let numbers = StandardNormal.sample_iter(generator).take(like.elem_count()).collect::<Vec<f32>>();
    Tensor::from_vec(numbers, like.shape(), like.device())?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let like = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        let found = normal(&like, 7, DType::F32).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found, FIRST);
    }

    const FIRST: [f32; 3] = [-1.0435766, -0.5767478, -0.7112543];
}
