//! Arithmetic on whole numbers of 64 bits: exact, or an error. candle's panics, or wraps around, or does not exist.

use candle_core::{DType, Result, Tensor, bail};

use crate::graph::{Binary, KindTag, Unary, kind_of};

/// Whether the entries are whole numbers.
pub(super) fn holds(x: &Tensor) -> bool {
    kind_of(x.dtype()) == KindTag::Int
}

/// The entries, outermost axis first.
fn entries(x: &Tensor) -> Result<Vec<i64>> {
    x.to_dtype(DType::I64)?.flatten_all()?.to_vec1()
}

/// A function of every entry.
///
/// # Errors
/// If a result does not fit into 64 bits, or the function returns no whole numbers.
pub(super) fn unary(op: Unary, x: &Tensor) -> Result<Tensor> {
    let function = |x: i64| match op {
        Unary::Neg => x.checked_neg(),
        Unary::Abs => x.checked_abs(),
        Unary::Sqr => x.checked_mul(x),
        Unary::Relu => Some(x.max(0)),
        // The numbers are whole, and `low` may be above `high`, as in candle.
        Unary::Clamp(low, high) => Some(x.max(low as i64).min(high as i64)),
        _ => None,
    };
    let found = entries(x)?.into_iter().map(|entry| match function(entry) {
        Some(result) => Ok(result),
        None => bail!("the result for {entry} is not a whole number of 64 bits"),
    });
    Tensor::from_vec(found.collect::<Result<Vec<_>>>()?, x.shape(), x.device())
}

/// Arithmetic on two tensors that broadcast.
///
/// # Errors
/// If a result does not fit into 64 bits, or a divisor is zero.
///
/// # Shapes
/// As candle's `broadcast_add`.
pub(super) fn binary(op: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = a.shape().broadcast_shape_binary_op(b.shape(), "arithmetic")?;
    let (left, right) = (entries(&a.broadcast_as(&shape)?)?, entries(&b.broadcast_as(&shape)?)?);
    let (name, function): (&str, fn(i64, i64) -> Option<i64>) = match op {
        Binary::Add => ("+", i64::checked_add),
        Binary::Sub => ("-", i64::checked_sub),
        Binary::Mul => ("*", i64::checked_mul),
        Binary::Div => ("/", i64::checked_div),
        Binary::Maximum => ("or", |a, b| Some(a.max(b))),
        Binary::Minimum => ("or", |a, b| Some(a.min(b))),
    };
    let found = left.into_iter().zip(right).map(|(a, b)| match function(a, b) {
        Some(result) => Ok(result),
        None if b == 0 => bail!("{a} / 0: whole numbers cannot be divided by zero; cast them to Float, or keep zeros out with `where_`"),
        None => bail!("{a} {name} {b} does not fit into 64 bits; cast the values to Float"),
    });
    Tensor::from_vec(found.collect::<Result<Vec<_>>>()?, shape, a.device())
}

/// The sums up to each entry of an axis.
///
/// # Errors
/// If one does not fit into 64 bits.
pub(super) fn cumsum(x: &Tensor, axis: usize) -> Result<Tensor> {
    let (size, inner) = (x.dim(axis)?, x.dims()[axis + 1..].iter().product::<usize>());
    let mut sums = entries(x)?;
    let row = size * inner;
    for index in 0..sums.len() {
        if index % row >= inner {
            let (before, here) = (sums[index - inner], sums[index]);
            sums[index] = match before.checked_add(here) {
                Some(sum) => sum,
                None => bail!("{before} + {here} does not fit into 64 bits; cast the values to Float"),
            };
        }
    }
    Tensor::from_vec(sums, x.shape(), x.device())
}

/// The sum over an axis, which stays with one entry.
///
/// # Errors
/// If it does not fit into 64 bits.
pub(super) fn sum_keepdim(x: &Tensor, axis: usize) -> Result<Tensor> {
    match x.dim(axis)? {
        0 => x.sum_keepdim(axis),
        size => cumsum(x, axis)?.narrow(axis, size - 1, 1)?.contiguous(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn tensor(entries: &[i64]) -> Tensor {
        Tensor::new(entries, &Device::Cpu).unwrap()
    }

    fn list(x: Result<Tensor>) -> Vec<i64> {
        x.unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn results_are_those_of_whole_numbers() {
        let x = tensor(&[-3, 0, 7]);
        assert_eq!(list(unary(Unary::Neg, &x)), [3, 0, -7]);
        assert_eq!(list(unary(Unary::Abs, &x)), [3, 0, 7]);
        assert_eq!(list(unary(Unary::Sqr, &x)), [9, 0, 49]);
        assert_eq!(list(unary(Unary::Relu, &x)), [0, 0, 7]);
        assert_eq!(list(unary(Unary::Clamp(-1.0, 5.0), &x)), [-1, 0, 5]);
        assert_eq!(list(binary(Binary::Div, &x, &tensor(&[2]))), [-1, 0, 3]);
        assert_eq!(list(binary(Binary::Maximum, &x, &tensor(&[1, 2, 3]))), [1, 2, 7]);
        let large = (1 << 62) - 1;
        assert_eq!(list(binary(Binary::Add, &tensor(&[large]), &tensor(&[large]))), [2 * large], "no `f64` lies between");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let says = |result: Result<Tensor>, words: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says(binary(Binary::Div, &tensor(&[4]), &tensor(&[0])), "4 / 0");
        says(binary(Binary::Div, &tensor(&[i64::MIN]), &tensor(&[-1])), "does not fit into 64 bits");
        says(binary(Binary::Add, &tensor(&[i64::MAX]), &tensor(&[1])), "does not fit into 64 bits");
        says(binary(Binary::Mul, &tensor(&[1 << 40]), &tensor(&[1 << 40])), "does not fit into 64 bits");
        says(unary(Unary::Neg, &tensor(&[i64::MIN])), "not a whole number of 64 bits");
        says(unary(Unary::Exp, &tensor(&[1])), "not a whole number of 64 bits");
        says(cumsum(&tensor(&[i64::MAX, 1]), 0), "does not fit into 64 bits");
    }

    #[test]
    fn sums_go_along_any_axis() {
        let x = tensor(&[1, 2, 3, 4, 5, 6]).reshape((2, 3)).unwrap();
        assert_eq!(list(cumsum(&x, 0)), [1, 2, 3, 5, 7, 9]);
        assert_eq!(list(cumsum(&x, 1)), [1, 3, 6, 4, 9, 15]);
        assert_eq!(list(sum_keepdim(&x, 1)), [6, 15]);
        assert_eq!(sum_keepdim(&x, 0).unwrap().dims(), [1, 3]);
        let turned = x.t().unwrap();
        assert_eq!(list(cumsum(&turned, 0)), [1, 4, 3, 9, 6, 15]);
    }
}
