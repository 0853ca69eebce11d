//! The rotary position embedding.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::cpu::{entries_of, rows};
use crate::dispatch::is_fused;
use crate::{reference, upcast};

/// Rotates the two halves of every head by the angles of its position (Su et al. 2021). In 16 bits it is computed in `f32` and rounded once.
///
/// # Shapes
/// `x`: `(Batch, Heads, Seq, HeadDim)`; `cos`, `sin`: `(Seq, HeadDim / 2)` or `(Batch, Seq, HeadDim / 2)`; the result has the shape and type of
/// `x`.
///
/// # Errors
/// If the shapes do not fit.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (dtype, x) = (x.dtype(), &upcast(x)?);
    let rotated = match x.track_op() {
        true => reference::rotate(x, cos, sin)?,
        false if is_fused(&[x, cos, sin]) => {
            // Positions before heads, as a projection leaves them; the result has that order in memory too.
            let by_position = x.transpose(1, 2)?.contiguous()?;
            by_position.apply_op3_no_bwd(&cos.contiguous()?, &sin.contiguous()?, &Rotate)?.transpose(1, 2)?
        }
        false => candle_nn::rotary_emb::rope(&x.contiguous()?, cos, sin)?,
    };
    rotated.to_dtype(dtype)
}

/// [`rotate`] of contiguous tensors, with `x` as `(Batch, Seq, Heads, HeadDim)`.
struct Rotate;

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, width, heads, size) = layout.shape().dims4()?;
        let angles = match cos_layout.dims().len() {
            2 => width * (size / 2),
            _ => batch * width * (size / 2),
        };
        let (cos, sin) = (entries_of(cos, cos_layout)?, entries_of(sin, sin_layout)?);
        if cos.len() != angles || sin.len() != angles {
            bail!("rotate: angles {:?} and {:?} for an input {:?}", cos_layout.dims(), sin_layout.dims(), (batch, heads, width, size));
        }
        let result = rows::rotate(entries_of(x, layout)?, cos, sin, (heads, size));
        Ok((CpuStorage::F32(result), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{close, random};

    #[test]
    fn rotation_is_that_of_candle() {
        let x = random(&[2, 5, 3, 16]).transpose(1, 2).unwrap();
        for shape in [&[5, 8][..], &[2, 5, 8]] {
            let (cos, sin) = (random(shape), random(shape));
            close(&rotate(&x, &cos, &sin).unwrap(), &candle_nn::rotary_emb::rope(&x.contiguous().unwrap(), &cos, &sin).unwrap(), 1e-5);
        }
    }

    #[test]
    fn angles_of_other_positions_are_refused() {
        assert!(rotate(&random(&[1, 2, 3, 4]), &random(&[2, 2]), &random(&[2, 2])).is_err());
    }
}
