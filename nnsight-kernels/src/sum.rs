//! Sums of many numbers.

use candle_core::{Result, Tensor};

/// Entries that are added one after the other. The sum of many loses more than that of such sums.
const PORTION: usize = 256;

/// The sum along an axis, which stays with one entry: portions, sums of portions, and so on. A gradient goes through it.
///
/// # Errors
/// If there is no such axis.
pub fn sum_in_portions(x: &Tensor, axis: usize) -> Result<Tensor> {
    let size = x.dim(axis)?;
    if size <= PORTION {
        return x.sum_keepdim(axis);
    }
    let (portions, rest) = (size / PORTION, size % PORTION);
    let mut dims = x.dims().to_vec();
    dims.splice(axis..=axis, [portions, PORTION]);
    let sums = x.narrow(axis, 0, portions * PORTION)?.contiguous()?.reshape(dims)?.sum(axis + 1)?;
    let sum = sum_in_portions(&sums, axis)?;
    match rest {
        0 => Ok(sum),
        rest => sum + x.narrow(axis, size - rest, rest)?.contiguous()?.sum_keepdim(axis)?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn a_million_tenths_are_a_hundred_thousand() {
        let x = Tensor::full(0.1f32, 1_000_003, &Device::Cpu).unwrap();
        let sum = sum_in_portions(&x, 0).unwrap().to_vec1::<f32>().unwrap()[0];
        assert!((f64::from(sum) - 100_000.3).abs() < 0.1, "{sum}");
    }

    #[test]
    fn along_any_axis_with_the_gradient_of_the_plain_sum() {
        for (shape, axis) in [([3, 600, 5], 1), ([700, 2, 3], 0), ([2, 3, 257], 2), ([2, 3, 4], 1)] {
            let x = Var::randn(0f32, 1.0, &shape, &Device::Cpu).unwrap();
            let factors = Tensor::randn(0f32, 1.0, &shape, &Device::Cpu).unwrap();
            let gradient = |y: &Tensor| y.broadcast_mul(&factors).unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
            let close = |a: &Tensor, b: &Tensor| {
                assert_eq!(a.dims(), b.dims());
                let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(difference < 1e-3, "{shape:?} {axis}: {difference}");
            };
            let (ours, plain) = (sum_in_portions(&x, axis).unwrap(), x.sum_keepdim(axis).unwrap());
            close(&ours, &plain);
            close(&gradient(&ours), &gradient(&plain));
        }
    }
}
