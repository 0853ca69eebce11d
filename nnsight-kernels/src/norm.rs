//! Normalisations along the innermost axis. In 16 bits they are computed in `f32` and rounded once.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::cpu::{entries_of, rows};
use crate::dispatch::{is_fused, is_fused_by_candle};
use crate::{reference, upcast_for_sums};

/// `x / sqrt(mean(x^2) + epsilon) * weight` (Zhang and Sennrich 2019).
///
/// # Shapes
/// `weight`: `(Hidden,)`, with the innermost axis of `x`; the result has the shape and type of `x`.
///
/// # Errors
/// If the weight has another size.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (dtype, [x, weight]) = (x.dtype(), &upcast_for_sums([x, weight])?);
    let normed = if is_fused(&[x, weight]) {
        x.contiguous()?.apply_op2_no_bwd(&weight.contiguous()?, &RmsNorm { epsilon: epsilon as f32 })?
    } else if is_fused_by_candle(&[x, weight]) {
        candle_nn::ops::rms_norm(&x.contiguous()?, &weight.contiguous()?, epsilon as f32)?
    } else {
        reference::rms_norm(x, weight, epsilon)?
    };
    normed.to_dtype(dtype)
}

/// `(x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias` (Ba et al. 2016).
///
/// # Shapes
/// `weight`, `bias`: `(Hidden,)`, with the innermost axis of `x`; the result has the shape and type of `x`.
///
/// # Errors
/// If the weight or the bias has another size.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (dtype, [x, weight, bias]) = (x.dtype(), &upcast_for_sums([x, weight, bias])?);
    let normed = if is_fused_by_candle(&[x, weight, bias]) {
        candle_nn::ops::layer_norm(&x.contiguous()?, &weight.contiguous()?, &bias.contiguous()?, epsilon as f32)?
    } else {
        reference::layer_norm(x, weight, bias, epsilon)?
    };
    normed.to_dtype(dtype)
}

/// [`rms_norm`] of contiguous tensors.
struct RmsNorm {
    epsilon: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout, weight: &CpuStorage, weight_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        match layout.dims().last() {
            Some(&width) if weight_layout.dims() == [width] => {
                let result = rows::rms_norm(entries_of(x, layout)?, entries_of(weight, weight_layout)?, self.epsilon);
                Ok((CpuStorage::F32(result), layout.shape().clone()))
            }
            _ => bail!("rms_norm: the weight has shape {:?}, the input {:?}", weight_layout.dims(), layout.dims()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{close, random};

    #[test]
    fn the_same_as_candles_whatever_the_size_and_order() {
        for width in [1, 33, 576] {
            for rows in [1, 7, 300] {
                let (x, weight) = (random(&[2, width, rows]).transpose(1, 2).unwrap(), random(&[width]));
                let expected = candle_nn::ops::rms_norm(&x.contiguous().unwrap(), &weight, 1e-5).unwrap();
                close(&rms_norm(&x, &weight, 1e-5).unwrap(), &expected, 1e-5);
            }
        }
    }

    #[test]
    fn a_weight_of_another_size_is_refused() {
        assert!(rms_norm(&random(&[2, 3]), &random(&[2]), 1e-5).is_err());
    }
}
