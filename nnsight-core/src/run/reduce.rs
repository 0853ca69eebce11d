//! One number from many.

use candle_core::{DType, Result, Tensor, bail};
use nnsight_kernels::sum_in_portions;

use super::whole;
use crate::graph::Reduce;

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
            _ if whole::holds(x) => whole::sum_keepdim(x, axis),
            _ => x.sum_keepdim(axis),
        }
    }
}

/// One number from the entries of an axis, or of all; `keep` says whether the axis stays with one entry.
pub(super) fn reduce(reduce: Reduce, axis: Option<usize>, keep: bool, x: &Tensor, sums: Sums, dtype: DType) -> Result<Tensor> {
    let (x, axis) = match axis {
        Some(axis) => (x.clone(), axis),
        None => (x.flatten_all()?, 0),
    };
    let is_whole = whole::holds(&x);
    // Whole numbers have no mean of their own: it is computed in `f64`, and is then of the model's type.
    let float = |x: &Tensor| if is_whole { x.to_dtype(DType::F64) } else { Ok(x.clone()) };
    let model = |x: Tensor| if is_whole { x.to_dtype(dtype) } else { Ok(x) };
    let index = |x: Tensor| x.to_dtype(DType::I64);
    if x.dim(axis)? == 0 && !matches!(reduce, Reduce::Sum | Reduce::Norm) {
        bail!("the axis number {axis} of {:?} has no entries", x.dims());
    }
    let count = x.dim(axis)? as f64;
    let kept = match (reduce, sums) {
        (Reduce::Sum, _) => sums.sum(&x, axis)?,
        (Reduce::Mean, Sums::Plain) => model(float(&x)?.mean_keepdim(axis)?)?,
        (Reduce::Mean, Sums::InPortions) => model((sums.sum(&float(&x)?, axis)? / count)?)?,
        (Reduce::Max, _) if x.track_op() => shared(&x, &x.max_keepdim(axis)?, axis)?,
        (Reduce::Min, _) if x.track_op() => shared(&x, &x.min_keepdim(axis)?, axis)?,
        (Reduce::Max, _) => x.max_keepdim(axis)?,
        (Reduce::Min, _) => x.min_keepdim(axis)?,
        (Reduce::Var, Sums::Plain) => model(float(&x)?.var_keepdim(axis)?)?,
        (Reduce::Var, Sums::InPortions) => {
            let x = float(&x)?;
            let centered = x.broadcast_sub(&(sums.sum(&x, axis)? / count)?)?;
            model((sums.sum(&centered.sqr()?, axis)? / (count - 1.0))?)?
        }
        (Reduce::Norm, _) => model(root(&sums.sum(&float(&x)?.sqr()?, axis)?)?)?,
        (Reduce::ArgMax, _) => index(x.argmax_keepdim(axis)?)?,
        (Reduce::ArgMin, _) => index(x.argmin_keepdim(axis)?)?,
    };
    if keep { Ok(kept) } else { kept.squeeze(axis) }
}

/// An extreme of an axis, with a gradient that equal entries share: in 16 bits many are equal, and candle has each take all of it.
fn shared(x: &Tensor, extreme: &Tensor, axis: usize) -> Result<Tensor> {
    let (extreme, zeros) = (extreme.detach(), x.zeros_like()?);
    let is_extreme = x.broadcast_eq(&extreme)?;
    let count = is_extreme.to_dtype(x.dtype())?.sum_keepdim(axis)?;
    // Nothing, with a gradient; infinities less themselves would be something.
    let finite = x.abs()?.lt(f64::INFINITY)?.where_cond(x, &zeros)?;
    let nothing = (&finite - finite.detach())?.broadcast_div(&count)?;
    extreme + is_extreme.where_cond(&nothing, &zeros)?.sum_keepdim(axis)?
}

/// The square root of a sum of squares; of zero its gradient is zero.
fn root(squares: &Tensor) -> Result<Tensor> {
    if !squares.track_op() {
        return squares.sqrt();
    }
    let (is_zero, zeros) = (squares.eq(0.0)?, squares.zeros_like()?);
    is_zero.where_cond(&zeros, &is_zero.where_cond(&zeros.ones_like()?, squares)?.sqrt()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn gradient(x: &Var, y: &Tensor) -> Vec<f32> {
        y.sum_all().unwrap().backward().unwrap().get(x).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn equal_entries_share_the_gradient_of_the_largest() {
        let x = Var::new(&[3f32, 1.0, 3.0, f32::NEG_INFINITY], &Device::Cpu).unwrap();
        let most = reduce(Reduce::Max, Some(0), false, &x, Sums::InPortions, DType::F32).unwrap();
        assert_eq!(most.to_scalar::<f32>().unwrap(), 3.0);
        assert_eq!(gradient(&x, &most), [0.5, 0.0, 0.5, 0.0]);
        let least = reduce(Reduce::Min, Some(0), false, &x, Sums::Plain, DType::F32).unwrap();
        assert_eq!(least.to_scalar::<f32>().unwrap(), f32::NEG_INFINITY);
    }

    #[test]
    fn the_norm_of_zero_has_no_gradient() {
        let x = Var::new(&[0f32, 0.0], &Device::Cpu).unwrap();
        let norm = reduce(Reduce::Norm, Some(0), false, &x, Sums::Plain, DType::F32).unwrap();
        assert_eq!((norm.to_scalar::<f32>().unwrap(), gradient(&x, &norm)), (0.0, vec![0.0, 0.0]));
        let x = Var::new(&[3f32, 4.0], &Device::Cpu).unwrap();
        let norm = reduce(Reduce::Norm, Some(0), false, &x, Sums::Plain, DType::F32).unwrap();
        assert_eq!((norm.to_scalar::<f32>().unwrap(), gradient(&x, &norm)), (5.0, vec![0.6, 0.8]));
    }
}
