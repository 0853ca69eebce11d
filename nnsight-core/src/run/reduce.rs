//! One number from many.

use candle_core::{DType, Result, Tensor};

use crate::graph::Reduce;
use crate::kernels::{cumsum_in_portions, sum_in_portions};

/// How sums are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// As candle makes them.
    Plain,
    /// So that the sum of a million entries is as exact as 16 bits can say.
    InPortions,
}

impl Sums {
    /// The sum along an axis, which stays with one entry.
    pub fn sum(self, x: &Tensor, axis: usize) -> Result<Tensor> {
        match self {
            Sums::InPortions if x.dtype() == DType::F32 => sum_in_portions(x, axis),
            _ => x.sum_keepdim(axis),
        }
    }

    /// The running sum along an axis.
    pub fn cumsum(self, x: &Tensor, axis: usize) -> Result<Tensor> {
        match self {
            Sums::InPortions if x.dtype() == DType::F32 => cumsum_in_portions(x, axis),
            _ => x.cumsum(axis),
        }
    }
}

/// One number from the entries of an axis, or of all; `keep` says whether the axis stays with one entry.
pub(super) fn reduce(reduce: Reduce, axis: Option<usize>, keep: bool, x: &Tensor, sums: Sums) -> Result<Tensor> {
    let (x, axis) = match axis {
        Some(axis) => (x.clone(), axis),
        None => (x.flatten_all()?, 0),
    };
    let float = |x: &Tensor| if x.dtype().is_float() { Ok(x.clone()) } else { x.to_dtype(DType::F32) };
    let index = |x: Tensor| x.to_dtype(DType::I64);
    let count = x.dim(axis)? as f64;
    let kept = match (reduce, sums) {
        (Reduce::Sum, _) => sums.sum(&x, axis)?,
        (Reduce::Mean, Sums::Plain) => float(&x)?.mean_keepdim(axis)?,
        (Reduce::Mean, Sums::InPortions) => (sums.sum(&float(&x)?, axis)? / count)?,
        (Reduce::Max, _) => x.max_keepdim(axis)?,
        (Reduce::Min, _) => x.min_keepdim(axis)?,
        (Reduce::Var, Sums::Plain) => float(&x)?.var_keepdim(axis)?,
        (Reduce::Var, Sums::InPortions) => {
            let x = float(&x)?;
            let centered = x.broadcast_sub(&(sums.sum(&x, axis)? / count)?)?;
            (sums.sum(&centered.sqr()?, axis)? / (count - 1.0))?
        }
        (Reduce::Norm, _) => sums.sum(&float(&x)?.sqr()?, axis)?.sqrt()?,
        (Reduce::ArgMax, _) => index(x.argmax_keepdim(axis)?)?,
        (Reduce::ArgMin, _) => index(x.argmin_keepdim(axis)?)?,
    };
    if keep { Ok(kept) } else { kept.squeeze(axis) }
}
