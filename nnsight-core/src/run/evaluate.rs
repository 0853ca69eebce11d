//! What each operation computes, in candle's terms.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use nnsight_kernels::{self as kernels, Extent, FusedElementwise, Operand, reference};

use super::cumsum::cumsum;
use super::reduce::{Sums, reduce};
use super::{random, whole};
use crate::graph::{Binary, Compare, Facts, Function, KindTag, Logic, Op, Region, Unary, kind_of, operation};

/// A value while the graph runs.
#[derive(Clone, Debug)]
pub(super) enum Datum {
    Tensor(Tensor),
    /// A number of the program, which takes the type of whatever it meets.
    Number(f64),
    /// What the next operation is computed with, in one pass.
    Fused(FusedElementwise),
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
            Datum::Number(number) => kernels::saturate(&Tensor::new(*number, self.device)?, self.dtype),
            Datum::Fused(chain) => chain.compute(),
            Datum::Several(_) => bail!("a loop ends with several values, and one of them is meant"),
        }
    }

    fn like(&self, datum: &Datum, other: &Datum) -> Result<Tensor> {
        match (datum, other) {
            (Datum::Number(number), Datum::Tensor(other)) => kernels::saturate(&Tensor::new(*number, self.device)?, other.dtype()),
            (Datum::Number(number), Datum::Fused(_)) => Tensor::new(*number as f32, self.device),
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
pub(super) fn chain(op: &Op, args: &[&Datum]) -> Option<FusedElementwise> {
    fn operand(arg: &Datum) -> Option<Operand<'_>> {
        match arg {
            Datum::Tensor(tensor) => Some(Operand::Tensor(tensor)),
            Datum::Number(number) => Some(Operand::Number(*number)),
            Datum::Fused(chain) => Some(Operand::Fused(chain)),
            Datum::Several(_) => None,
        }
    }
    match (op, args) {
        (Op::Unary(op), [x]) => FusedElementwise::unary(*op, operand(x)?),
        (Op::Binary(op), [a, b]) => FusedElementwise::binary(*op, operand(a)?, operand(b)?),
        _ => None,
    }
}

/// Computes an operation in the types of its arguments. `facts` are those of its value.
pub(super) fn compute(op: &Op, args: &[&Datum], functions: &[Function], precision: Precision<'_>, sums: Sums, facts: &Facts) -> Result<Datum> {
    let all = || args.iter().map(|arg| precision.tensor(arg)).collect::<Result<Vec<_>>>();
    let first = || precision.tensor(args[0]);
    let tensor = match op {
        Op::Scalar(number) => return Ok(Datum::Number(*number)),
        // In steps it has no gradient where `e^-x` overflows.
        Op::Unary(Unary::Sigmoid) if sums == Sums::InPortions => candle_nn::ops::sigmoid(&first()?)?,
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
        Op::Reduce { reduce: kind, axis, keep } => reduce(*kind, *axis, *keep, &with_strides(first()?)?, sums, precision.dtype)?,
        Op::Softmax { axis, log: false } => softmax(&first()?, *axis)?,
        Op::Softmax { axis, log: true } => {
            let x = with_strides(first()?)?;
            if x.elem_count() == 0 {
                return Ok(args[0].clone());
            }
            let shifted = x.broadcast_sub(&x.max_keepdim(*axis)?)?;
            shifted.broadcast_sub(&sums.sum(&shifted.exp()?, *axis)?.log()?)?
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
            scatter(&x, *axis, &index.to_dtype(DType::I64)?.to_vec1::<i64>()?, &precision.like(args[2], args[0])?)?
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
            kernels::saturate(&Tensor::new(*number, x.device())?, x.dtype())?.broadcast_as(x.shape())?.contiguous()?
        }
        Op::Randn { seed } => random::normal(&first()?, *seed, precision.dtype)?,
        Op::Cast(kind) => cast(&first()?, *kind, precision)?,
        Op::Item { index } => match args[0] {
            Datum::Several(values) if *index < values.len() => return Ok(values[*index].clone()),
            _ => bail!("there is no such value of a loop"),
        },
        Op::Apply { function, kind, .. } => {
            let given = match functions.get(function.index()) {
                Some(function) => function.call(&all()?)?,
                None => bail!("the function is not there"),
            };
            check_kind(&given, *kind)?;
            check_shape(&given, facts)?;
            cast(&given, *kind, precision)?
        }
        Op::Custom { operation: name, parameters, .. } => match operation(name) {
            Some(operation) => {
                let given = operation.compute(&all()?, parameters)?;
                check_kind(&given, facts.kind)?;
                check_shape(&given, facts)?;
                cast(&given, facts.kind, precision)?
            }
            None => bail!("no operation is registered as `{name}`"),
        },
        Op::Store { dtype, host } => {
            let mut x = first()?.detach();
            if let Some(dtype) = dtype {
                let Ok(dtype) = dtype.parse() else { bail!("unknown dtype `{dtype}`") };
                x = x.to_dtype(dtype)?;
            }
            if *host { x.to_device(&Device::Cpu)? } else { x }
        }
        Op::Get { .. }
        | Op::Set { .. }
        | Op::Skip { .. }
        | Op::Stop { .. }
        | Op::Output { .. }
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
    if whole::holds(x) {
        return whole::unary(op, x);
    }
    reference::unary(op, x)
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
    if whole::holds(&a) && whole::holds(&b) {
        return whole::binary(op, &a, &b);
    }
    reference::binary(op, &a, &b)
}

/// Refuses what a function returned, if its entries are of another kind than was declared.
fn check_kind(given: &Tensor, kind: KindTag) -> Result<()> {
    let found = kind_of(given.dtype());
    match found == kind {
        true => Ok(()),
        false => bail!(
            "it returned entries of type `{}`, which are of kind {}, and was declared to return {}; convert them with `to_dtype`",
            given.dtype().as_str(),
            found.name(),
            kind.name()
        ),
    }
}

/// Refuses what an operation returned, if its sizes are others than was declared.
fn check_shape(given: &Tensor, facts: &Facts) -> Result<()> {
    let fits =
        given.rank() == facts.axes.len() && facts.axes.iter().zip(given.dims()).all(|(axis, &found)| axis.size.is_none_or(|size| size == found));
    match fits {
        true => Ok(()),
        false => bail!("the function gave {:?}, and was declared to give {facts}", given.dims()),
    }
}

fn softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if axis + 1 == x.rank() {
        return kernels::softmax(x);
    }
    candle_nn::ops::softmax(x, axis)
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
    if k > last {
        bail!("the {k} largest of an axis of {last} entries");
    }
    let rows = x.elem_count() / last.max(1);
    // Ties go to the lower index, NaN to the end, so that the order is the same everywhere.
    let order = match whole::holds(x) {
        true => best(&x.to_dtype(DType::I64)?.reshape((rows, last))?.to_vec2::<i64>()?, k, i64::cmp),
        false => best(&x.to_dtype(DType::F32)?.reshape((rows, last))?.to_vec2::<f32>()?, k, f32::total_cmp),
    };
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

/// The indices of the `k` largest entries of each row, best first.
fn best<T>(rows: &[Vec<T>], k: usize, compare: fn(&T, &T) -> std::cmp::Ordering) -> Vec<u32> {
    let mut order = Vec::with_capacity(rows.len() * k);
    for row in rows {
        let mut best = (0..row.len() as u32).collect::<Vec<_>>();
        let rank = |a: &u32, b: &u32| compare(&row[*b as usize], &row[*a as usize]).then(a.cmp(b));
        if k < best.len() {
            best.select_nth_unstable_by(k, rank);
            best.truncate(k);
        }
        best.sort_by(rank);
        order.extend(best);
    }
    order
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
    // Each entry of the result is one of `x` or, after those, one of `value`.
    let mut source = (0..size as u32).collect::<Vec<_>>();
    for (entry, &index) in index.iter().enumerate() {
        let start = if index < 0 { index + size as i64 } else { index };
        match usize::try_from(start).ok().and_then(|start| source.get_mut(start)) {
            Some(source) => *source = (size + entry) as u32,
            None => bail!("index {index} lies outside of an axis of {size} entries"),
        }
    }
    let both = Tensor::cat(&[&x.contiguous()?, &value.broadcast_as(dims)?.contiguous()?], axis)?;
    both.index_select(&Tensor::from_vec(source, size, x.device())?, axis)
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

/// The same with a stride for every axis: candle divides by that of an axis of one entry, which is zero if it came from being broadcast.
fn with_strides(x: Tensor) -> candle_core::Result<Tensor> {
    match x.is_contiguous() && x.stride().contains(&0) {
        true => x.force_contiguous(),
        false => Ok(x),
    }
}
