//! The product with weights.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Storage, Tensor, bail};

use super::matrix::Matrix;
use super::rows;

/// `x W` for some matrices: in one go where there are few rows, which is what most of the time of a pass over one prompt goes into.
///
/// # Shapes
/// `x`: `(…, In)`; the result of a matrix: `(…, Out)`.
///
/// # Errors
/// Where the shapes do not fit.
pub fn products<const N: usize>(x: &Tensor, matrices: [&Matrix; N]) -> Result<[Tensor; N]> {
    let count = x.elem_count() / x.dims().last().copied().unwrap_or(1).max(1);
    let few = count <= rows::FEW && x.device().is_cpu() && x.dtype() == DType::F32 && !x.track_op();
    if !few || !matrices.iter().all(|matrix| matrix.is_stored()) {
        let results = matrices.map(|matrix| product(x, &matrix.tensor()?));
        return collect(results.into_iter());
    }
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(entries)), inner) = (&*storage, x.dim(candle_core::D::Minus1)?) else {
        bail!("the product of few rows is for f32 on the CPU")
    };
    for matrix in matrices {
        if matrix.sizes()?.0 != inner {
            bail!("a product of {:?} and {:?}", x.dims(), matrix.sizes()?);
        }
    }
    let entries = &entries[layout.start_offset()..layout.start_offset() + x.elem_count()];
    let results = Matrix::borrow(&matrices, |stored| rows::products(entries, inner, stored))?;
    collect(results.into_iter().zip(matrices).map(|(result, matrix)| Tensor::from_vec(result, dims(&x, matrix.sizes()?.1), x.device())))
}

/// `x W`. Where a gradient is asked for only beyond `x`, none is computed for the weight, which costs as much again.
///
/// # Shapes
/// `x`: `(…, In)`, `weight`: `(In, Out)`.
///
/// # Errors
/// Where the shapes do not fit.
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    // One product over all rows is much faster than one for each prompt.
    let (inner, outer) = weight.dims2()?;
    let rows = x.reshape((x.elem_count() / inner, inner))?;
    let result = match x.track_op() && !weight.track_op() && x.device().is_cpu() {
        true => rows.contiguous()?.apply_op1(Product { weight: weight.clone() })?,
        false => rows.matmul(weight)?,
    };
    result.reshape(dims(x, outer))
}

/// The shape of a result.
fn dims(x: &Tensor, outer: usize) -> Vec<usize> {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = outer;
    }
    dims
}

fn collect<const N: usize>(results: impl Iterator<Item = Result<Tensor>>) -> Result<[Tensor; N]> {
    match results.collect::<Result<Vec<_>>>()?.try_into() {
        Ok(results) => Ok(results),
        Err(results) => bail!("{} products instead of {N}", results.len()),
    }
}

struct Product {
    weight: Tensor,
}

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inner) = layout.shape().dims2()?;
        let (weight, weight_layout) = self.weight.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else { bail!("the weight is on another device") };
        let (found, outer) = weight_layout.shape().dims2()?;
        if found != inner {
            bail!("a product of ({rows}, {inner}) and ({found}, {outer})");
        }
        let result = x.matmul(weight, (1, rows, outer, inner), layout, weight_layout)?;
        Ok((result, Shape::from((rows, outer))))
    }

    fn bwd(&self, _x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.matmul(&self.weight.t()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::WeightFormat;
    use super::*;
    use candle_core::{Device, Var};

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn the_same_as_the_plain_product_with_the_same_gradient() {
        for transposed in [false, true] {
            let x = Var::randn(0f32, 1.0, (5, 7), &Device::Cpu).unwrap();
            let weight = match transposed {
                true => Tensor::randn(0f32, 1.0, (3, 7), &Device::Cpu).unwrap().t().unwrap(),
                false => Tensor::randn(0f32, 1.0, (7, 3), &Device::Cpu).unwrap(),
            };
            let (ours, plain) = (product(&x, &weight).unwrap(), x.matmul(&weight).unwrap());
            assert!(difference(&ours, &plain) < 1e-5);
            let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
            assert!(difference(&gradient(&ours), &gradient(&plain)) < 1e-4);
        }
    }

    #[test]
    fn several_products_of_any_number_of_rows_in_any_form() {
        for rows in [1, 2, 3, 4, 7, 64, 65, rows::FEW + 1] {
            for (inner, outers) in [(96, [61, 1]), (32, [3, 130])] {
                let x = Tensor::randn(0f32, 1.0, (1, rows, inner), &Device::Cpu).unwrap();
                let weights = outers.map(|outer| Tensor::randn(0f32, 1.0, (inner, outer), &Device::Cpu).unwrap());
                for format in [None, Some(WeightFormat::Bf16), Some(WeightFormat::Q8_0), Some(WeightFormat::Q4_1)] {
                    let matrices = weights.each_ref().map(|weight| match format {
                        None => Matrix::laid_out(weight.clone()).unwrap(),
                        Some(format) => Matrix::packed(weight, format).unwrap(),
                    });
                    let found = products(&x, matrices.each_ref()).unwrap();
                    for (found, matrix) in found.iter().zip(&matrices) {
                        let expected = x.broadcast_matmul(&matrix.tensor().unwrap()).unwrap();
                        assert_eq!(found.dims(), expected.dims());
                        assert!(difference(found, &expected) < 1e-4, "{rows} {inner} {format:?}: {}", difference(found, &expected));
                    }
                }
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let matrix = Matrix::from(Tensor::zeros((8, 3), DType::F32, &Device::Cpu).unwrap());
        let x = Tensor::zeros((2, 7), DType::F32, &Device::Cpu).unwrap();
        assert!(products(&x, [&matrix]).is_err());
    }
}
