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

/// The running sum along an axis, made in portions as well. A gradient goes through it.
///
/// # Errors
/// If there is no such axis.
pub fn cumsum_in_portions(x: &Tensor, axis: usize) -> Result<Tensor> {
    along_last(x, axis, cumsum_of_last)
}

/// The running sum along an axis, as candle makes it.
///
/// # Errors
/// If there is no such axis.
pub fn cumsum(x: &Tensor, axis: usize) -> Result<Tensor> {
    // candle's own way to another axis makes a product that it refuses for several matrices.
    match x.rank() > 2 && x.dim(0)? > 1 {
        true => along_last(x, axis, |x| x.cumsum(x.rank() - 1)),
        false => x.cumsum(axis),
    }
}

fn along_last(x: &Tensor, axis: usize, run: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let last = x.rank() - 1;
    run(&x.transpose(axis, last)?.contiguous()?)?.transpose(axis, last)?.contiguous()
}

fn cumsum_of_last(x: &Tensor) -> Result<Tensor> {
    let last = x.rank() - 1;
    let size = x.dim(last)?;
    if size <= PORTION {
        return x.cumsum(last);
    }
    // Whole portions: the last is filled up with zeros.
    let portions = size.div_ceil(PORTION);
    let mut dims = x.dims().to_vec();
    dims.splice(last.., [portions, PORTION]);
    let filled = x.pad_with_zeros(last, 0, portions * PORTION - size)?;
    let within = filled.reshape(dims)?.cumsum(last + 1)?;
    // What comes before each portion: the running sum of those before it.
    let sums = within.narrow(last + 1, PORTION - 1, 1)?.squeeze(last + 1)?.narrow(last, 0, portions - 1)?.contiguous()?;
    let before = cumsum_of_last(&sums)?.pad_with_zeros(last, 1, 0)?.unsqueeze(last + 1)?;
    within.broadcast_add(&before)?.reshape(filled.shape())?.narrow(last, 0, size)?.contiguous()
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
        let sums = cumsum_in_portions(&x, 0).unwrap().to_vec1::<f32>().unwrap();
        assert!(sums.iter().enumerate().all(|(at, sum)| (f64::from(*sum) / (0.1 * (at + 1) as f64) - 1.0).abs() < 1e-5));
    }

    #[test]
    fn running_sums_along_any_axis() {
        let x = Tensor::arange(0f32, 60.0, &Device::Cpu).unwrap().reshape((3, 4, 5)).unwrap();
        let found = cumsum(&x, 1).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(found[2][3], [190.0, 194.0, 198.0, 202.0, 206.0]);
        assert_eq!(cumsum(&x, 0).unwrap().to_vec3::<f32>().unwrap()[2][0], [60.0, 63.0, 66.0, 69.0, 72.0]);
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
            for (ours, plain) in [
                (sum_in_portions(&x, axis).unwrap(), x.sum_keepdim(axis).unwrap()),
                (cumsum_in_portions(&x, axis).unwrap(), cumsum(&x, axis).unwrap()),
            ] {
                close(&ours, &plain);
                close(&gradient(&ours), &gradient(&plain));
            }
        }
    }
}
