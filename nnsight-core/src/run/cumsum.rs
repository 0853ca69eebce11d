//! Running sums, block by block: candle's takes a matrix with as many rows and columns as the axis has entries.

use candle_core::{Result, Tensor};

use super::whole;
use crate::graph::CUMSUM_BLOCK;

/// The sums up to each entry of an axis.
///
/// # Errors
/// If a sum of whole numbers does not fit into 64 bits.
pub(super) fn cumsum(x: &Tensor, axis: usize) -> Result<Tensor> {
    let size = x.dim(axis)?;
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if whole::holds(x) {
        return whole::cumsum(x, axis);
    }
    let last = x.rank() - 1;
    let rows = x.transpose(axis, last)?.contiguous()?;
    let dims = rows.dims().to_vec();
    let sums = along_rows(&rows.reshape((rows.elem_count() / size, size))?)?;
    sums.reshape(dims)?.transpose(axis, last)
}

/// Of `(Rows, Entries)`.
fn along_rows(x: &Tensor) -> Result<Tensor> {
    let (_, size) = x.dims2()?;
    if size <= CUMSUM_BLOCK {
        return x.matmul(&Tensor::triu2(size, x.dtype(), x.device())?);
    }
    let triangle = Tensor::triu2(CUMSUM_BLOCK, x.dtype(), x.device())?;
    let whole = size / CUMSUM_BLOCK * CUMSUM_BLOCK;
    let mut blocks = Vec::with_capacity(size.div_ceil(CUMSUM_BLOCK));
    let mut before: Option<Tensor> = None;
    for start in (0..size).step_by(CUMSUM_BLOCK) {
        let block = match start < whole {
            true => x.narrow(1, start, CUMSUM_BLOCK)?.contiguous()?.matmul(&triangle)?,
            false => x.narrow(1, start, size - start)?.contiguous()?.matmul(&Tensor::triu2(size - start, x.dtype(), x.device())?)?,
        };
        let block = match &before {
            Some(before) => block.broadcast_add(before)?,
            None => block,
        };
        before = Some(block.narrow(1, block.dim(1)? - 1, 1)?);
        blocks.push(block);
    }
    Tensor::cat(&blocks, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn long_sums_are_those_of_one_entry_after_the_other() {
        for (dims, axis) in [(vec![700], 0), (vec![2, 513, 3], 1), (vec![3, 256], 1), (vec![300, 2], 0)] {
            let x = Tensor::rand(-1f32, 1.0, dims.as_slice(), &Device::Cpu).unwrap();
            let mut rows = vec![x.narrow(axis, 0, 1).unwrap()];
            for index in 1..dims[axis] {
                rows.push((&rows[index - 1] + x.narrow(axis, index, 1).unwrap()).unwrap());
            }
            let expected = Tensor::cat(&rows, axis).unwrap();
            let found = cumsum(&x, axis).unwrap();
            assert_eq!(found.dims(), expected.dims());
            let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 1e-4, "{dims:?}: {difference}");
        }
    }

    #[test]
    fn a_gradient_goes_through_a_long_sum() {
        let x = candle_core::Var::from_tensor(&Tensor::ones(600, candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        let gradients = cumsum(&x, 0).unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients.get(&x).unwrap().to_vec1::<f32>().unwrap();
        // The entry at `i` is in all sums from there on.
        assert!(found.iter().enumerate().all(|(index, gradient)| *gradient == (600 - index) as f32));
    }
}
