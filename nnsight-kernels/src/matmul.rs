//! The product with weights that are a tensor.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Storage, Tensor, bail};

use crate::dispatch::has_input_gradient_only;
use crate::reference;

/// `x W`, in the type of `x`. If a gradient is asked for only for `x` or what it was computed from, none is computed for the weight, which costs as
/// much again.
///
/// # Shapes
/// `x`: `(…, In)`; `weight`: `(In, Out)`; the result: `(…, Out)`.
///
/// # Errors
/// If the shapes do not fit.
pub fn matmul(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !has_input_gradient_only(x, weight) {
        return reference::matmul(x, &in_type(weight, x.dtype())?);
    }
    let (inner, outer) = weight.dims2()?;
    let rows = x.reshape((x.elem_count() / inner.max(1), inner))?.contiguous()?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(outer);
    rows.apply_op1(FrozenMatmul { weight: weight.clone() })?.reshape(dims)
}

/// A weight in the type of what it is multiplied with, in the order in memory that it has.
fn in_type(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    let transposed = weight.t()?;
    if transposed.is_contiguous() { transposed.to_dtype(dtype)?.t() } else { weight.to_dtype(dtype) }
}

/// The product with a weight for which no gradient is computed. It may have fewer bits than the input.
struct FrozenMatmul {
    weight: Tensor,
}

impl CustomOp1 for FrozenMatmul {
    fn name(&self) -> &'static str {
        "frozen_matmul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inner) = layout.shape().dims2()?;
        let weight = in_type(&self.weight, x.dtype())?;
        let (weight, weight_layout) = weight.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else { bail!("matmul: the input is on the CPU, and the weight is not") };
        let (found, outer) = weight_layout.shape().dims2()?;
        if found != inner {
            bail!("matmul: an input of shape {:?} and a weight of shape {:?} do not fit", (rows, inner), (found, outer));
        }
        let result = x.matmul(weight, (1, rows, outer, inner), layout, weight_layout)?;
        Ok((result, Shape::from((rows, outer))))
    }

    fn bwd(&self, _x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.matmul(&in_type(&self.weight, gradient.dtype())?.t()?)?))
    }
}
