//! The product with weights.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Storage, Tensor, bail};
use nnsight_core::kernels::widen_for_sums;

use super::cpu::back::back;
use super::cpu::panels::Panels;
use super::cpu::product as kernel;
use super::matrix::Matrix;

/// `x W` for some matrices: in one go where they are in panels. Of 16 bits the results are in `f32`, for a bias to be added before they are rounded.
///
/// # Shapes
/// `x`: `(…, In)`; the result of a matrix: `(…, Out)`.
///
/// # Errors
/// Where the shapes do not fit.
pub fn products<const N: usize>(x: &Tensor, matrices: [&Matrix; N]) -> Result<[Tensor; N]> {
    let [x] = &widen_for_sums([x])?;
    let panels = matrices.iter().map(|matrix| matrix.panels().filter(|_| x.dtype() == DType::F32)).collect::<Option<Vec<_>>>();
    let results = match panels {
        None => matrices.iter().map(|matrix| product(x, &matrix.tensor()?)).collect::<Result<Vec<_>>>()?,
        Some(panels) if x.track_op() => {
            let x = x.contiguous()?;
            panels.into_iter().map(|panels| x.apply_op1(InPanels { panels: Arc::clone(panels) })).collect::<Result<Vec<_>>>()?
        }
        Some(panels) => {
            let x = x.contiguous()?;
            let (storage, layout) = x.storage_and_layout();
            let panels = panels.into_iter().map(|panels| &**panels).collect::<Vec<_>>();
            let results = kernel::products(entries(&storage, layout, &panels)?, &panels).into_iter().zip(&panels);
            results.map(|(result, panels)| Tensor::from_vec(result, with_last(x.dims(), panels.outer), x.device())).collect::<Result<Vec<_>>>()?
        }
    };
    match results.try_into() {
        Ok(results) => Ok(results),
        Err(results) => bail!("{} products instead of {N}", Vec::<Tensor>::len(&results)),
    }
}

/// `x W`, in the type of `x`. Where a gradient is asked for only beyond `x`, none is computed for the weight, which costs as much again.
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
        true => rows.contiguous()?.apply_op1(WithTensor { weight: weight.clone() })?,
        false => rows.matmul(&in_type(weight, x.dtype())?)?,
    };
    result.reshape(with_last(x.dims(), outer))
}

/// A weight in the type of what it is multiplied with, lying as it does.
fn in_type(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    let transposed = weight.t()?;
    if transposed.is_contiguous() { transposed.to_dtype(dtype)?.t() } else { weight.to_dtype(dtype) }
}

/// A shape with another last size.
fn with_last(dims: &[usize], last: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    dims.pop();
    dims.push(last);
    dims
}

/// The entries of an input to some matrices.
fn entries<'a>(storage: &'a Storage, layout: &Layout, panels: &[&Panels]) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => cpu_entries(storage, layout, panels),
        _ => bail!("a product with weights on the CPU of an input on another device"),
    }
}

fn cpu_entries<'a>(storage: &'a CpuStorage, layout: &Layout, panels: &[&Panels]) -> Result<&'a [f32]> {
    let inner = layout.dims().last().copied().unwrap_or(0);
    if let Some(panels) = panels.iter().find(|panels| panels.inner != inner) {
        bail!("a product of {:?} and {:?}", layout.dims(), (panels.inner, panels.outer));
    }
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(entries), Some((start, end))) => Ok(&entries[start..end]),
        _ => bail!("a product with panels is for contiguous f32"),
    }
}

/// The product with a matrix in panels, and the way back through it.
struct InPanels {
    panels: Arc<Panels>,
}

impl CustomOp1 for InPanels {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let results = kernel::products(cpu_entries(x, layout, &[&self.panels])?, &[&self.panels]);
        let shape = Shape::from(with_last(layout.dims(), self.panels.outer));
        Ok((CpuStorage::F32(results.into_iter().flatten().collect()), shape))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if !self.panels.is_plain() {
            let weight = Tensor::from_vec(self.panels.rows(), (self.panels.outer, self.panels.inner), x.device())?;
            return Ok(Some(product(&gradient.detach(), &weight)?));
        }
        let gradient = gradient.contiguous()?;
        let (storage, layout) = gradient.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(entries)), Some((start, end))) if gradient.dim(D::Minus1)? == self.panels.outer => {
                Ok(Some(Tensor::from_vec(back(&entries[start..end], &self.panels), x.dims(), x.device())?))
            }
            _ => bail!("a gradient of {:?} through a product with {:?}", gradient.dims(), (self.panels.inner, self.panels.outer)),
        }
    }
}

/// The product with a tensor, which computes no gradient for it. It may have fewer bits than the input.
struct WithTensor {
    weight: Tensor,
}

impl CustomOp1 for WithTensor {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inner) = layout.shape().dims2()?;
        let weight = in_type(&self.weight, x.dtype())?;
        let (weight, weight_layout) = weight.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else { bail!("the weight is on another device") };
        let (found, outer) = weight_layout.shape().dims2()?;
        if found != inner {
            bail!("a product of ({rows}, {inner}) and ({found}, {outer})");
        }
        let result = x.matmul(weight, (1, rows, outer, inner), layout, weight_layout)?;
        Ok((result, Shape::from((rows, outer))))
    }

    fn bwd(&self, _x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.matmul(&in_type(&self.weight, gradient.dtype())?.t()?)?))
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
        for (rows, inner, outer) in [(5, 7, 3), (1, 96, 65), (14, 64, 33), (31, 33, 97)] {
            let x = Var::randn(0f32, 1.0, (rows, inner), &Device::Cpu).unwrap();
            let weight = Tensor::randn(0f32, 1.0, (outer, inner), &Device::Cpu).unwrap().t().unwrap();
            let plain = x.matmul(&weight).unwrap();
            let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
            let [in_panels] = products(&x, [&Matrix::laid_out(weight.clone()).unwrap()]).unwrap();
            for ours in [in_panels, product(&x, &weight).unwrap()] {
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
    fn weights_of_16_bits_are_multiplied_as_they_are() {
        for dtype in [DType::F16, DType::BF16] {
            // The smallest are numbers of `f16` without an exponent.
            for (rows, scale) in [(1, 1.0), (3, 1e-3), (40, 1e-6)] {
                let weight = (Tensor::randn(0f32, 1.0, (64, 70), &Device::Cpu).unwrap() * scale).unwrap().to_dtype(dtype).unwrap();
                let x = Tensor::randn(0f32, 1.0, (rows, 64), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let matrix = Matrix::laid_out(weight.clone()).unwrap();
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
        let matrix = Matrix::packed(&Tensor::randn(0f32, 1.0, (32, 9), &Device::Cpu).unwrap(), WeightFormat::Q8_0).unwrap();
        let x = Var::randn(0f32, 1.0, (3, 32), &Device::Cpu).unwrap();
        let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        let [y] = products(&x, [&matrix]).unwrap();
        assert!(difference(&gradient(&y), &gradient(&x.matmul(&matrix.tensor().unwrap()).unwrap())) < 1e-3);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let matrix = Matrix::laid_out(Tensor::zeros((8, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
        let x = Tensor::zeros((2, 7), DType::F32, &Device::Cpu).unwrap();
        assert!(products(&x, [&matrix]).is_err());
    }
}
