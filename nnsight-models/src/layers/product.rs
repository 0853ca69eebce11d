//! The product with a weight.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, bail};

/// `x W`. Where a gradient is asked for only beyond `x`, none is computed for the weight, which costs as much again.
///
/// # Shapes
/// `x`: `(rows, In)`, `weight`: `(In, Out)`.
///
/// # Errors
/// Where the shapes do not fit.
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    match x.track_op() && !weight.track_op() && x.device().is_cpu() {
        true => x.contiguous()?.apply_op1(Product { weight: weight.clone() }),
        false => x.matmul(weight),
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
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_same_as_the_plain_product_with_the_same_gradient() {
        for transposed in [false, true] {
            let x = Var::randn(0f32, 1.0, (5, 7), &Device::Cpu).unwrap();
            let weight = match transposed {
                true => Tensor::randn(0f32, 1.0, (3, 7), &Device::Cpu).unwrap().t().unwrap(),
                false => Tensor::randn(0f32, 1.0, (7, 3), &Device::Cpu).unwrap(),
            };
            let (ours, plain) = (product(&x, &weight).unwrap(), x.matmul(&weight).unwrap());
            let difference = |a: &Tensor, b: &Tensor| (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference(&ours, &plain) < 1e-5);
            let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
            assert!(difference(&gradient(&ours), &gradient(&plain)) < 1e-4);
        }
    }
}
