//! What each operation computes, in candle's terms.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use crate::graph::{Binary, Compare, Function, Logic, Op, Reduce, Region, Span, Unary, operation};
use crate::kernels::{self, Chain, Extent, Operand};
use crate::types::KindTag;

/// A value while the graph runs.
#[derive(Clone, Debug)]
pub(super) enum Datum {
    Tensor(Tensor),
    /// A number of the program, which takes the type of whatever it meets.
    Number(f64),
    /// What the next operation is computed with, in one pass.
    Chain(Chain),
    /// What a loop ends with.
    Several(Vec<Datum>),
}

/// Where and in which type floating-point values are computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Precision<'a> {
    pub device: &'a Device,
    pub dtype: DType,
}

impl Precision<'_> {
    /// The value as a tensor.
    pub fn tensor(&self, datum: &Datum) -> Result<Tensor> {
        match datum {
            Datum::Tensor(tensor) => Ok(tensor.clone()),
            Datum::Number(number) => Tensor::new(*number, self.device)?.to_dtype(self.dtype),
            Datum::Chain(chain) => chain.compute(),
            Datum::Several(_) => bail!("a loop ends with several values, and one of them is meant"),
        }
    }

    fn like(&self, datum: &Datum, other: &Datum) -> Result<Tensor> {
        match (datum, other) {
            (Datum::Number(number), Datum::Tensor(other)) => Tensor::new(*number, self.device)?.to_dtype(other.dtype()),
            (Datum::Number(number), Datum::Chain(_)) => Tensor::new(*number as f32, self.device),
            _ => self.tensor(datum),
        }
    }

    /// Both values in the same type.
    fn both(&self, a: &Datum, b: &Datum) -> Result<(Tensor, Tensor)> {
        Ok((self.like(a, b)?, self.like(b, a)?))
    }

    fn dtype_of(&self, kind: KindTag) -> DType {
        match kind {
            KindTag::Float => self.dtype,
            KindTag::Int => DType::I64,
            KindTag::Bool => DType::U8,
        }
    }
}

/// An element-wise operation as the next of a chain, where it can be.
pub(super) fn chain(op: &Op, args: &[&Datum]) -> Option<Chain> {
    fn operand(arg: &Datum) -> Option<Operand<'_>> {
        match arg {
            Datum::Tensor(tensor) => Some(Operand::Tensor(tensor)),
            Datum::Number(number) => Some(Operand::Number(*number)),
            Datum::Chain(chain) => Some(Operand::Chain(chain)),
            Datum::Several(_) => None,
        }
    }
    match (op, args) {
        (Op::Unary(op), [x]) => Chain::unary(*op, operand(x)?),
        (Op::Binary(op), [a, b]) => Chain::binary(*op, operand(a)?, operand(b)?),
        _ => None,
    }
}

/// Runs an operation that needs nothing but its arguments.
pub(super) fn evaluate(op: &Op, args: &[&Datum], functions: &[Function], precision: Precision<'_>) -> Result<Datum> {
    let all = || args.iter().map(|arg| precision.tensor(arg)).collect::<Result<Vec<_>>>();
    let first = || precision.tensor(args[0]);
    let tensor = match op {
        Op::Scalar(number) => return Ok(Datum::Number(*number)),
        Op::Unary(op) => unary(*op, &first()?)?,
        Op::Binary(op) => binary(*op, args[0], args[1], precision)?,
        Op::Compare(op) => {
            let (a, b) = precision.both(args[0], args[1])?;
            match op {
                Compare::Eq => a.broadcast_eq(&b)?,
                Compare::Ne => a.broadcast_ne(&b)?,
                Compare::Lt => a.broadcast_lt(&b)?,
                Compare::Le => a.broadcast_le(&b)?,
                Compare::Gt => a.broadcast_gt(&b)?,
                Compare::Ge => a.broadcast_ge(&b)?,
            }
        }
        Op::Logic(Logic::Not) => first()?.eq(0u8)?,
        Op::Logic(op) => {
            let (a, b) = precision.both(args[0], args[1])?;
            match op {
                Logic::And => a.broadcast_mul(&b)?,
                _ => a.broadcast_maximum(&b)?,
            }
        }
        Op::Reduce { reduce, axis, keep } => self::reduce(*reduce, *axis, *keep, &first()?)?,
        Op::Softmax { axis, log: false } => softmax(&first()?, *axis)?,
        Op::Softmax { axis, log: true } => {
            let x = first()?;
            let shifted = x.broadcast_sub(&x.max_keepdim(*axis)?)?;
            shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(*axis)?.log()?)?
        }
        Op::CumSum { axis } => cumsum(&first()?, *axis)?,
        Op::MatMul => matmul(&first()?, &precision.tensor(args[1])?)?,
        Op::Permute { order, .. } => first()?.permute(order.as_slice())?,
        Op::Split { axis, into } => {
            let x = first()?;
            let size = x.dim(*axis)?;
            let parts = match (into[0].1, into[1].1) {
                (Some(outer), _) => [outer, size / outer.max(1)],
                (None, Some(inner)) => [size / inner.max(1), inner],
                (None, None) => bail!("one of the sizes of a split must be known"),
            };
            let mut dims = x.dims().to_vec();
            dims.splice(*axis..=*axis, parts);
            x.reshape(dims)?
        }
        Op::Merge { axis, .. } => {
            let x = first()?;
            x.flatten(*axis, axis + 1)?
        }
        Op::Rename { .. } | Op::Log { .. } => return Ok(args[0].clone()),
        Op::Slice(region) => {
            let x = first()?;
            let extents = extents(region, x.dims())?;
            squeeze(kernels::part(&x, &extents)?, region)?
        }
        Op::Patch(region) => {
            let (x, value) = (first()?, precision.like(args[1], args[0])?);
            let extents = extents(region, x.dims())?;
            kernels::patch(&x, &extents, &unsqueeze(value, region, x.rank())?)?
        }
        Op::Pick { axis } => {
            let (x, index) = (first()?, precision.tensor(args[1])?);
            check_indices(&index, x.dim(*axis)?)?;
            x.contiguous()?.gather(&index.unsqueeze(*axis)?.contiguous()?, *axis)?.squeeze(*axis)?
        }
        Op::Gather { axis } => {
            let (x, index) = (first()?, precision.tensor(args[1])?);
            check_indices(&index, x.dim(*axis)?)?;
            x.contiguous()?.gather(&index.contiguous()?, *axis)?
        }
        Op::IndexSelect { axis } => {
            let (x, index) = (first()?, precision.tensor(args[1])?);
            let index = from_end(&index, x.dim(*axis)?)?;
            check_indices(&index, x.dim(*axis)?)?;
            x.contiguous()?.index_select(&index.contiguous()?, *axis)?
        }
        Op::Scatter { axis } => {
            let (x, index) = (first()?, precision.tensor(args[1])?);
            scatter(&x, *axis, &index.to_vec1::<i64>()?, &precision.like(args[2], args[0])?)?
        }
        Op::Cat { axis } => Tensor::cat(&all()?, *axis)?,
        Op::Stack { .. } => {
            let all = all()?;
            let shape = all[0].shape().clone();
            let all = all.iter().map(|tensor| tensor.broadcast_as(&shape)).collect::<Result<Vec<_>>>()?;
            Tensor::stack(&all, 0)?
        }
        Op::Where => {
            let condition = first()?;
            let (yes, no) = precision.both(args[1], args[2])?;
            let shape = condition.shape().broadcast_shape_binary_op(yes.shape(), "where")?.broadcast_shape_binary_op(no.shape(), "where")?;
            condition.broadcast_as(&shape)?.where_cond(&yes.broadcast_as(&shape)?, &no.broadcast_as(&shape)?)?
        }
        Op::TopK { k, indices } => topk(&first()?, *k, *indices)?,
        Op::OneHot { size, .. } => {
            let index = first()?;
            check_indices(&index, *size)?;
            let entries = Tensor::arange(0, *size as i64, index.device())?;
            index.to_dtype(DType::I64)?.unsqueeze(D::Minus1)?.broadcast_eq(&entries)?.to_dtype(precision.dtype)?
        }
        Op::Full(number) => {
            let x = first()?;
            Tensor::new(*number, x.device())?.to_dtype(x.dtype())?.broadcast_as(x.shape())?.contiguous()?
        }
        Op::Randn { seed } => randn(&first()?, *seed, precision.dtype)?,
        Op::Cast(kind) => cast(&first()?, *kind, precision)?,
        Op::Item { index } => match args[0] {
            Datum::Several(values) if *index < values.len() => return Ok(values[*index].clone()),
            _ => bail!("there is no such value of a loop"),
        },
        Op::Apply { function, axes, kind } => {
            let given = match functions.get(function.index()) {
                Some(function) => function.call(&all()?)?,
                None => bail!("the function is not there"),
            };
            check_applied(&given, &first()?, axes)?;
            given.to_dtype(precision.dtype_of(*kind))?
        }
        Op::Custom { operation: name, parameters, .. } => match operation(name) {
            Some(operation) => operation.compute(&all()?, parameters)?,
            None => bail!("no operation is registered as `{name}`"),
        },
        Op::Store { dtype, host } => {
            let mut x = first()?.detach();
            if let Some(dtype) = dtype {
                let Ok(dtype) = dtype.parse() else { bail!("`{dtype}` is no type of numbers") };
                x = x.to_dtype(dtype)?;
            }
            if *host { x.to_device(&Device::Cpu)? } else { x }
        }
        Op::Get { .. }
        | Op::Set { .. }
        | Op::Skip { .. }
        | Op::Stop { .. }
        | Op::Tokens { .. }
        | Op::Grad
        | Op::SetGrad
        | Op::Constant(_)
        | Op::Loop(_)
        | Op::Call { .. }
        | Op::Choose => bail!("`{}` is not run by itself", op.name()),
    };
    Ok(Datum::Tensor(tensor))
}

fn unary(op: Unary, x: &Tensor) -> Result<Tensor> {
    match op {
        Unary::Neg => x.neg(),
        Unary::Exp => x.exp(),
        Unary::Ln => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Sqr => x.sqr(),
        Unary::Abs => x.abs(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
        Unary::Gelu => x.gelu(),
        Unary::Silu => x.silu(),
        Unary::Relu => x.relu(),
        Unary::Recip => x.recip(),
        Unary::Powf(exponent) => x.powf(exponent),
        Unary::Clamp(low, high) => x.clamp(low, high),
    }
}

fn binary(op: Binary, a: &Datum, b: &Datum, precision: Precision<'_>) -> Result<Tensor> {
    if let (Datum::Tensor(x), Datum::Number(number)) = (a, b)
        && x.dtype().is_float()
    {
        match op {
            Binary::Add => return x.affine(1.0, *number),
            Binary::Sub => return x.affine(1.0, -number),
            Binary::Mul => return x.affine(*number, 0.0),
            Binary::Div | Binary::Maximum | Binary::Minimum => {}
        }
    }
    let (a, b) = precision.both(a, b)?;
    match op {
        Binary::Add => a.broadcast_add(&b),
        Binary::Sub => a.broadcast_sub(&b),
        Binary::Mul => a.broadcast_mul(&b),
        Binary::Div => a.broadcast_div(&b),
        Binary::Maximum => a.broadcast_maximum(&b),
        Binary::Minimum => a.broadcast_minimum(&b),
    }
}

fn reduce(reduce: Reduce, axis: Option<usize>, keep: bool, x: &Tensor) -> Result<Tensor> {
    let (x, axis) = match axis {
        Some(axis) => (x.clone(), axis),
        None => (x.flatten_all()?, 0),
    };
    let float = |x: &Tensor| if x.dtype().is_float() { Ok(x.clone()) } else { x.to_dtype(DType::F32) };
    let index = |x: Tensor| x.to_dtype(DType::I64);
    let kept = match reduce {
        Reduce::Sum => x.sum_keepdim(axis)?,
        Reduce::Mean => float(&x)?.mean_keepdim(axis)?,
        Reduce::Max => x.max_keepdim(axis)?,
        Reduce::Min => x.min_keepdim(axis)?,
        Reduce::Var => float(&x)?.var_keepdim(axis)?,
        Reduce::Norm => float(&x)?.sqr()?.sum_keepdim(axis)?.sqrt()?,
        Reduce::ArgMax => index(x.argmax_keepdim(axis)?)?,
        Reduce::ArgMin => index(x.argmin_keepdim(axis)?)?,
    };
    if keep { Ok(kept) } else { kept.squeeze(axis) }
}

/// Holds what a function gave against what was declared of it.
fn check_applied(given: &Tensor, first: &Tensor, axes: &[(String, Option<usize>)]) -> Result<()> {
    let fits = given.rank() == axes.len() && axes.iter().zip(given.dims()).all(|((_, size), &found)| size.is_none_or(|size| size == found));
    if !fits {
        let declared = axes.iter().map(|(name, size)| size.map_or_else(|| name.clone(), |size| format!("{name} = {size}")));
        let declared = declared.collect::<Vec<_>>().join(", ");
        bail!("the function gave {:?} for {:?}, and was declared to give ({declared})", given.dims(), first.dims());
    }
    Ok(())
}

fn softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    if axis + 1 == x.rank() {
        return kernels::softmax(x);
    }
    candle_nn::ops::softmax(x, axis)
}

/// The running sum along an axis. candle multiplies with a triangle, and its product takes values with more than one axis around those only
/// where they are in order.
fn cumsum(x: &Tensor, axis: usize) -> Result<Tensor> {
    let last = x.rank().saturating_sub(1);
    x.transpose(axis, last)?.contiguous()?.cumsum(last)?.transpose(axis, last)
}

/// The product over the innermost two axes; a matrix on the right multiplies every matrix on the left.
fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if b.rank() == 2 && a.rank() > 2 {
        let (rows, inner) = (a.elem_count() / a.dim(D::Minus1)?.max(1), a.dim(D::Minus1)?);
        let mut dims = a.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = b.dim(1)?;
        }
        return a.reshape((rows, inner))?.matmul(b)?.reshape(dims);
    }
    a.contiguous()?.matmul(&b.contiguous()?)
}

fn topk(x: &Tensor, k: usize, indices: bool) -> Result<Tensor> {
    let device = x.device();
    let last = x.dim(D::Minus1)?;
    let rows = x.elem_count() / last.max(1);
    let flat = x.to_dtype(DType::F32)?.reshape((rows, last))?.to_vec2::<f32>()?;
    let mut order = Vec::with_capacity(rows * k);
    for row in &flat {
        let mut best = (0..last as u32).collect::<Vec<_>>();
        // Ties go to the lower index, NaN to the end, so that the order is the same everywhere.
        let rank = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
        if k < best.len() {
            best.select_nth_unstable_by(k, rank);
            best.truncate(k);
        }
        best.sort_by(rank);
        order.extend(best);
    }
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = k;
    }
    let order = Tensor::from_vec(order, dims, device)?;
    match indices {
        true => order.to_dtype(DType::I64),
        false => x.contiguous()?.gather(&order, D::Minus1),
    }
}

fn randn(like: &Tensor, seed: u64, dtype: DType) -> Result<Tensor> {
    use rand::SeedableRng as _;
    use rand_distr::Distribution as _;
    let generator = rand::rngs::StdRng::seed_from_u64(seed);
    let numbers = rand_distr::StandardNormal.sample_iter(generator).take(like.elem_count()).collect::<Vec<f32>>();
    Tensor::from_vec(numbers, like.shape(), like.device())?.to_dtype(dtype)
}

fn cast(x: &Tensor, kind: KindTag, precision: Precision<'_>) -> Result<Tensor> {
    match kind {
        KindTag::Bool => x.ne(&x.zeros_like()?),
        kind => x.to_dtype(precision.dtype_of(kind)),
    }
}

/// `x` with `value` written to some entries of an axis; where one is named twice, the last value counts.
fn scatter(x: &Tensor, axis: usize, index: &[i64], value: &Tensor) -> Result<Tensor> {
    let size = x.dim(axis)?;
    let mut dims = x.dims().to_vec();
    dims[axis] = index.len();
    let value = value.broadcast_as(dims)?;
    let mut result = x.clone();
    for (entry, &index) in index.iter().enumerate() {
        let start = if index < 0 { index + size as i64 } else { index };
        if !(0..size as i64).contains(&start) {
            bail!("index {index} lies outside of an axis of {size} entries");
        }
        let extent = Extent { axis, span: Span { start: start as usize, len: 1 } };
        result = kernels::patch(&result, &[extent], &value.narrow(axis, entry, 1)?)?;
    }
    Ok(result)
}

/// Indices of which negative ones count from the end, as plain ones.
fn from_end(indices: &Tensor, size: usize) -> Result<Tensor> {
    let below = indices.lt(0i64)?.to_dtype(DType::I64)?;
    indices + (below * size as f64)?
}

/// Refuses indices outside of an axis: CUDA would read whatever stands there.
fn check_indices(indices: &Tensor, size: usize) -> Result<()> {
    let indices = indices.to_dtype(DType::I64)?.flatten_all()?;
    if indices.elem_count() == 0 {
        return Ok(());
    }
    let (low, high) = (indices.min(0)?.to_scalar::<i64>()?, indices.max(0)?.to_scalar::<i64>()?);
    if low < 0 || high >= size as i64 {
        bail!("an index lies outside of an axis of {size} entries (they go from {low} to {high})");
    }
    Ok(())
}

/// The extents of a region in a tensor of these sizes.
pub(super) fn extents(region: &Region, dims: &[usize]) -> Result<Vec<Extent>> {
    let mut sizes = dims.to_vec();
    let mut extents = Vec::with_capacity(region.0.len());
    for step in &region.0 {
        let axis = step.axis as usize;
        let Some(span) = sizes.get(axis).and_then(|&size| step.resolve(size)) else {
            bail!("{step} lies outside of axis {axis} of {dims:?}");
        };
        sizes[axis] = span.len;
        extents.push(Extent { axis, span });
    }
    Ok(extents)
}

/// Drops the axes of which the region takes one entry.
pub(super) fn squeeze(part: Tensor, region: &Region) -> Result<Tensor> {
    singles(region).into_iter().rev().try_fold(part, |part, axis| part.squeeze(axis))
}

/// Puts the axes back of which the region takes one entry, so that a value of lower rank lines up with the part.
pub(super) fn unsqueeze(value: Tensor, region: &Region, rank: usize) -> Result<Tensor> {
    let singles = singles(region);
    // A value of lower rank is a suffix of the part without its single axes: only those within its reach come back.
    let mut dims = value.dims().iter().rev();
    let mut padded = Vec::with_capacity(rank);
    for axis in (0..rank).rev() {
        if singles.contains(&axis) {
            padded.push(1);
        } else {
            match dims.next() {
                Some(&size) => padded.push(size),
                None => break,
            }
        }
    }
    padded.reverse();
    value.reshape(padded)
}

fn singles(region: &Region) -> Vec<usize> {
    let mut axes = region.0.iter().filter(|step| step.single).map(|step| step.axis as usize).collect::<Vec<_>>();
    axes.sort_unstable();
    axes.dedup();
    axes
}
