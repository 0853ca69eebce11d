//! Operations on tensors that a run gave back, computed as in a run.

use candle_core::{DType, Result, Tensor};

use super::evaluate::{Datum, Precision};
use super::rounding::evaluate;
use crate::graph::{Facts, KindTag, Op};

/// Computes an operation. Entries of 16 bits are widened for it, and the result is rounded once.
///
/// # Errors
/// What candle fails with.
pub(crate) fn compute(op: &Op, args: &[&Tensor]) -> Result<Tensor> {
    let Some(first) = args.first() else { candle_core::bail!("`{}` needs an argument", op.name()) };
    let dtype = common(args);
    let wide = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
    let widened = |arg: &&Tensor| {
        let arg = arg.to_device(first.device())?;
        if arg.dtype().is_float() { arg.to_dtype(wide) } else { Ok(arg) }
    };
    let data = args.iter().map(|arg| widened(arg).map(Datum::Tensor)).collect::<Result<Vec<_>>>()?;
    let precision = Precision { device: first.device(), dtype: wide };
    // Only what functions of the program give is held against what was declared, and there is none outside of a trace.
    let undeclared = Facts::scalar(KindTag::Float);
    let result = precision.tensor(&evaluate(op, &data.iter().collect::<Vec<_>>(), &[], precision, &undeclared)?)?;
    if result.dtype() == wide && wide != dtype { result.to_dtype(dtype) } else { Ok(result) }
}

/// The type in which the floating-point arguments meet: the wider one, or F32 where neither has the range and the precision of the other.
fn common(args: &[&Tensor]) -> DType {
    let floats = args.iter().map(|arg| arg.dtype()).filter(DType::is_float);
    let met = floats.reduce(|a, b| match (a, b) {
        (a, b) if a == b => a,
        (DType::F64, _) | (_, DType::F64) => DType::F64,
        _ => DType::F32,
    });
    met.unwrap_or(DType::F32)
}
