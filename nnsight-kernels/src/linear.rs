//! Linear maps of one input by matrices in panels, in one pass over the threads.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};

use crate::cpu::matmul_grad_input::matmul_grad_input;
use crate::cpu::panels::Panels;
use crate::cpu::{self, entries, entries_of};
use crate::{Matrix, MaybeOwned, matmul, upcast_for_sums};

/// `x W` for some matrices: in one go if they are in panels. Of 16 bits the results are in `f32`, for a bias to be added before they are rounded.
/// A gradient goes to `x`, and none to the matrices.
///
/// # Shapes
/// `x`: `(…, In)`; the result of a matrix: `(…, Out)`.
///
/// # Errors
/// If the shapes do not fit.
pub fn fused_matmul<const N: usize>(x: &Tensor, matrices: [&Matrix; N]) -> Result<[MaybeOwned; N]> {
    let [x] = &upcast_for_sums([x])?;
    let panels = matrices.iter().map(|matrix| matrix.panels().filter(|_| x.dtype() == DType::F32)).collect::<Option<Vec<_>>>();
    let results = match panels {
        None => matrices.iter().map(|matrix| matmul(x, &matrix.tensor()?)).collect::<Result<Vec<_>>>()?,
        Some(panels) if x.track_op() => {
            let x = x.contiguous()?;
            panels.into_iter().map(|panels| x.apply_op1(PackedMatmul { panels: Arc::clone(panels) })).collect::<Result<Vec<_>>>()?
        }
        Some(panels) => all(&x.contiguous()?, &panels)?,
    };
    match results.into_iter().map(MaybeOwned::fresh).collect::<Vec<_>>().try_into() {
        Ok(results) => Ok(results),
        Err(results) => bail!("{} products instead of {N}", Vec::<MaybeOwned>::len(&results)),
    }
}

/// `y + bias`
///
/// # Shapes
/// `y`: `(…, Out)`, as the result; `bias`: `(Out,)`.
///
/// # Errors
/// If the shapes do not fit.
pub fn add_bias(y: MaybeOwned, bias: &Tensor) -> Result<MaybeOwned> {
    Ok(MaybeOwned::fresh(y.tensor().broadcast_add(&bias.to_dtype(y.dtype())?)?))
}

/// All products in one go. A candle operation has one result; these have several, which are read from and put into storages here.
fn all(x: &Tensor, panels: &[&Arc<Panels>]) -> Result<Vec<Tensor>> {
    let (storage, layout) = x.storage_and_layout();
    let panels = panels.iter().map(|panels| &***panels).collect::<Vec<_>>();
    check(layout, &panels)?;
    let results = cpu::matmul::matmul(entries(&storage, layout)?, &panels).into_iter().zip(&panels);
    results.map(|(result, panels)| Tensor::from_vec(result, with_last(x.dims(), panels.outer), x.device())).collect()
}

/// Refuses an input that has not the inner size of the matrices.
fn check(layout: &Layout, panels: &[&Panels]) -> Result<()> {
    let inner = layout.dims().last().copied().unwrap_or(0);
    match panels.iter().find(|panels| panels.inner != inner) {
        Some(panels) => bail!("matmul: an input of shape {:?} and a weight of shape {:?} do not fit", layout.dims(), (panels.inner, panels.outer)),
        None => Ok(()),
    }
}

/// A shape with another last size.
fn with_last(dims: &[usize], last: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    dims.pop();
    dims.push(last);
    dims
}

/// The product with one matrix, with a gradient for the input.
struct PackedMatmul {
    panels: Arc<Panels>,
}

impl CustomOp1 for PackedMatmul {
    fn name(&self) -> &'static str {
        "packed_matmul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        check(layout, &[&self.panels])?;
        let results = cpu::matmul::matmul(entries_of(x, layout)?, &[&self.panels]);
        let Some(result) = results.into_iter().next() else { bail!("matmul: no result for one matrix") };
        Ok((CpuStorage::F32(result), Shape::from(with_last(layout.dims(), self.panels.outer))))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let Panels { inner, outer, .. } = *self.panels;
        if !self.panels.is_plain() {
            let weight = Tensor::from_vec(self.panels.rows(), (outer, inner), x.device())?;
            return Ok(Some(matmul(&gradient.detach(), &weight)?));
        }
        let gradient = gradient.contiguous()?;
        if gradient.dim(D::Minus1)? != outer {
            bail!("matmul: a gradient of shape {:?} for a weight of shape {:?}", gradient.dims(), (inner, outer));
        }
        let (storage, layout) = gradient.storage_and_layout();
        Ok(Some(Tensor::from_vec(matmul_grad_input(entries(&storage, layout)?, &self.panels), x.dims(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WeightFormat;
    use crate::tests::difference;
    use candle_core::{Device, Var};

    fn products<const N: usize>(x: &Tensor, matrices: [&Matrix; N]) -> Result<[Tensor; N]> {
        Ok(fused_matmul(x, matrices)?.map(MaybeOwned::into_tensor))
    }

    #[test]
    fn the_same_as_the_plain_product_with_the_same_gradient() {
        for (rows, inner, outer) in [(5, 7, 3), (1, 96, 65), (14, 64, 33), (31, 33, 97)] {
            let x = Var::randn(0f32, 1.0, (rows, inner), &Device::Cpu).unwrap();
            let weight = Tensor::randn(0f32, 1.0, (outer, inner), &Device::Cpu).unwrap().t().unwrap();
            let plain = x.matmul(&weight).unwrap();
            let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
            let [in_panels] = products(&x, [&Matrix::packed(weight.clone()).unwrap()]).unwrap();
            for ours in [in_panels, matmul(&x, &weight).unwrap()] {
                assert!(difference(&ours, &plain) < 1e-4);
                assert!(difference(&gradient(&ours), &gradient(&plain)) < 2e-3, "{rows} {inner} {outer}");
            }
        }
    }

    #[test]
    fn several_products_of_any_number_of_rows_in_any_form() {
        for rows in (1..=15).chain([28, 64, 169, 400]) {
            for (inner, outers) in [(96, [61, 1]), (32, [3, 130])] {
                let x = Tensor::randn(0f32, 1.0, (1, rows, inner), &Device::Cpu).unwrap();
                let weights = outers.map(|outer| Tensor::randn(0f32, 1.0, (inner, outer), &Device::Cpu).unwrap());
                for format in [None, Some(WeightFormat::Bf16), Some(WeightFormat::Q8_0), Some(WeightFormat::Q4_1)] {
                    let matrices = weights.each_ref().map(|weight| match format {
                        None => Matrix::packed(weight.clone()).unwrap(),
                        Some(format) => Matrix::quantized(weight, format).unwrap(),
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
    fn weights_of_16_bits_are_multiplied_as_they_are() {
        for dtype in [DType::F16, DType::BF16] {
            // The smallest are numbers of `f16` without an exponent.
            for (rows, scale) in [(1, 1.0), (3, 1e-3), (40, 1e-6)] {
                let weight = (Tensor::randn(0f32, 1.0, (64, 70), &Device::Cpu).unwrap() * scale).unwrap().to_dtype(dtype).unwrap();
                let x = Tensor::randn(0f32, 1.0, (rows, 64), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let matrix = Matrix::packed(weight.clone()).unwrap();
                assert!(matrix.panels().is_some());
                let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
                assert_eq!(matrix.tensor().unwrap().dtype(), dtype);
                assert_eq!(difference(&wide(&matrix.tensor().unwrap()), &wide(&weight)), 0.0);
                let [found] = products(&x, [&matrix]).unwrap();
                let expected = wide(&x).matmul(&wide(&weight)).unwrap();
                assert_eq!(found.dtype(), DType::F32);
                assert!(difference(&found, &expected) < 1e-4 * scale as f32, "{dtype:?} {scale}: {}", difference(&found, &expected));
            }
        }
    }

    #[test]
    fn a_gradient_goes_back_through_fewer_bits() {
        let matrix = Matrix::quantized(&Tensor::randn(0f32, 1.0, (32, 9), &Device::Cpu).unwrap(), WeightFormat::Q8_0).unwrap();
        let x = Var::randn(0f32, 1.0, (3, 32), &Device::Cpu).unwrap();
        let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        let [y] = products(&x, [&matrix]).unwrap();
        assert!(difference(&gradient(&y), &gradient(&x.matmul(&matrix.tensor().unwrap()).unwrap())) < 1e-3);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let matrix = Matrix::packed(Tensor::zeros((8, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
        let x = Tensor::zeros((2, 7), DType::F32, &Device::Cpu).unwrap();
        assert!(products(&x, [&matrix]).is_err());
    }
}
