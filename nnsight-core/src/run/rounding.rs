//! Operations in a model of 16 bits: computed in `f32`, rounded once.

use candle_core::{DType, Result, Tensor, bail};
use nnsight_kernels as kernels;

use super::evaluate::{Datum, Precision, compute};
use super::reduce::Sums;
use crate::graph::{Facts, Function, Op};

/// Runs an operation that needs nothing but its arguments. `facts` are those of its value. In a model of 16 bits it is computed in `f32` and rounded once; so is its gradient.
pub(super) fn evaluate(op: &Op, args: &[&Datum], functions: &[Function], precision: Precision<'_>, facts: &Facts) -> Result<Datum> {
    if !kernels::is_half(precision.dtype) || !is_in_f32(op, args) {
        return compute(op, args, functions, precision, Sums::Plain, facts);
    }
    let widened = args.iter().map(|arg| match arg {
        Datum::Tensor(tensor) => kernels::upcast(tensor).map(Datum::Tensor),
        other => Ok(Datum::clone(other)),
    });
    let widened = widened.collect::<Result<Vec<_>>>()?;
    let in_f32 = Precision { dtype: DType::F32, ..precision };
    match compute(op, &widened.iter().collect::<Vec<_>>(), functions, in_f32, Sums::InPortions, facts)? {
        Datum::Tensor(tensor) if tensor.dtype() == DType::F32 => round(&tensor, precision.dtype).map(Datum::Tensor),
        other => Ok(other),
    }
}

/// What was computed in `f32`, in 16 bits. A single number, as losses are, that does not fit is refused; of many some may be infinite, as in PyTorch.
fn round(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.rank() == 0 {
        let (number, largest) = (x.to_scalar::<f32>()?, kernels::largest(dtype));
        let rounded = x.detach().to_dtype(dtype)?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        if number.is_finite() && !rounded.is_finite() {
            bail!(
                "{number:e} is more than {} can hold, whose largest number is {largest:.3e}; load the model with more bits, `.dtype(DType::F32)` on its \
                 source, or scale down what this is computed from",
                dtype.as_str()
            );
        }
    }
    x.to_dtype(dtype)
}

/// Whether 16 bits are too few to compute an operation in: it rounds in between, or its gradient is added up over many entries.
fn is_in_f32(op: &Op, args: &[&Datum]) -> bool {
    let tensors = || args.iter().filter_map(|arg| if let Datum::Tensor(tensor) = arg { Some(tensor) } else { None });
    match op {
        Op::Unary(_) | Op::Binary(_) | Op::Reduce { .. } | Op::Softmax { .. } | Op::CumSum { .. } => true,
        // Devices other than the CPU have products of 16 bits that add up in `f32`.
        Op::MatMul => tensors().any(|tensor| !kernels::accumulates_in_f32(tensor)),
        Op::Patch(_) | Op::Pick { .. } | Op::Gather { .. } | Op::IndexSelect { .. } => tensors().any(Tensor::track_op),
        Op::Scatter { .. } | Op::Cat { .. } | Op::Stack { .. } | Op::Where | Op::TopK { .. } => tensors().any(Tensor::track_op),
        _ => false,
    }
}
