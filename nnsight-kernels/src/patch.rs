//! Slice assignment: the one operation that interventions add to a model.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use crate::dispatch::is_writable;
use crate::{Extent, MaybeOwned, cpu, part_dims, reference, saturate, upcast_for_sums};

/// A copy of `base` with `value` written into the part that the extents describe, one after the other.
///
/// # Shapes
/// `value` broadcasts to the part, which has the rank of `base`.
///
/// # Errors
/// If an extent is outside of `base`, or `value` does not broadcast.
pub fn patch(base: &Tensor, extents: &[Extent], value: &Tensor) -> Result<Tensor> {
    Ok(patch_owned(MaybeOwned::shared(base.clone()), extents, value)?.into_tensor())
}

/// As [`patch`]; a base that is owned is overwritten instead of copied.
///
/// # Errors
/// As [`patch`].
pub fn patch_owned(base: MaybeOwned, extents: &[Extent], value: &Tensor) -> Result<MaybeOwned> {
    let value = saturate(value, base.dtype())?;
    if is_writable(base.tensor(), &value) {
        return write(base, extents, &value);
    }
    // What is written in many places has a gradient that is added up over them.
    let [wide_base, wide_value] = upcast_for_sums([base.tensor(), &value])?;
    Ok(MaybeOwned::shared(reference::patch(&wide_base, extents, &wide_value)?.to_dtype(base.dtype())?))
}

/// One copy of the tensor, if it is not owned, and one pass over the part.
fn write(base: MaybeOwned, extents: &[Extent], value: &Tensor) -> Result<MaybeOwned> {
    let write = Write::new(base.dims(), extents)?;
    let value = value.broadcast_as(write.sizes.as_slice())?.contiguous()?;
    if write.is_whole(base.dims()) {
        return Ok(MaybeOwned::shared(value));
    }
    let target = match base.writable() {
        Some(_) => base,
        None => MaybeOwned::copy_of(base.tensor())?,
    };
    target.tensor().inplace_op2(&value, &write)?;
    Ok(target)
}

/// Writes the second tensor into a box of the first.
struct Write {
    starts: Vec<usize>,
    sizes: Vec<usize>,
}

impl Write {
    fn new(dims: &[usize], extents: &[Extent]) -> Result<Self> {
        let mut starts = vec![0; dims.len()];
        let sizes = part_dims(dims, extents)?;
        for Extent { axis, span } in extents {
            starts[*axis] += span.start;
        }
        Ok(Write { starts, sizes })
    }

    fn is_whole(&self, dims: &[usize]) -> bool {
        self.starts.iter().all(|&start| start == 0) && self.sizes == dims
    }
}

impl InplaceOp2 for Write {
    fn name(&self) -> &'static str {
        "patch"
    }

    fn cpu_fwd(&self, target: &mut CpuStorage, layout: &Layout, source: &CpuStorage, source_layout: &Layout) -> Result<()> {
        let (part, from) = (cpu::patch::Part { starts: &self.starts, sizes: &self.sizes }, source_layout.start_offset());
        match (target, source) {
            (CpuStorage::F32(target), CpuStorage::F32(source)) => part.copy(target, layout, source, from),
            (CpuStorage::F64(target), CpuStorage::F64(source)) => part.copy(target, layout, source, from),
            (CpuStorage::BF16(target), CpuStorage::BF16(source)) => part.copy(target, layout, source, from),
            (CpuStorage::F16(target), CpuStorage::F16(source)) => part.copy(target, layout, source, from),
            (CpuStorage::U8(target), CpuStorage::U8(source)) => part.copy(target, layout, source, from),
            (CpuStorage::U32(target), CpuStorage::U32(source)) => part.copy(target, layout, source, from),
            (CpuStorage::I64(target), CpuStorage::I64(source)) => part.copy(target, layout, source, from),
            (target, _) => bail!("a part of a tensor of type {:?} cannot be replaced", target.dtype()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use candle_core::Device;

    fn at(axis: usize, start: usize, len: usize) -> Extent {
        Extent { axis, span: Span { start, len } }
    }

    #[test]
    fn only_what_is_owned_is_overwritten() {
        let base = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
        let value = Tensor::new(&[9f32], &Device::Cpu).unwrap();
        let first = patch_owned(MaybeOwned::shared(base.clone()), &[at(0, 0, 1)], &value).unwrap();
        assert_eq!(base.to_vec1::<f32>().unwrap(), [1.0, 2.0, 3.0]);
        assert!(first.is_owned());
        // The same storage again, without a copy.
        let before = first.tensor().clone();
        let second = patch_owned(first, &[at(0, 2, 1)], &value).unwrap().into_tensor();
        assert_eq!(before.to_vec1::<f32>().unwrap(), [9.0, 2.0, 9.0]);
        assert_eq!(second.to_vec1::<f32>().unwrap(), [9.0, 2.0, 9.0]);
    }

    #[test]
    fn a_reading_in_between_keeps_what_it_read() {
        let base = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
        let value = Tensor::new(&[9f32], &Device::Cpu).unwrap();
        let mut first = patch_owned(MaybeOwned::shared(base), &[at(0, 0, 1)], &value).unwrap();
        let read = first.share();
        let second = patch_owned(first, &[at(0, 2, 1)], &value).unwrap().into_tensor();
        assert_eq!(read.to_vec1::<f32>().unwrap(), [9.0, 2.0, 3.0]);
        assert_eq!(second.to_vec1::<f32>().unwrap(), [9.0, 2.0, 9.0]);
    }

    #[test]
    fn a_value_that_is_all_of_it_is_not_owned_by_the_result() {
        let base = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let value = Tensor::new(&[8f32, 9.0], &Device::Cpu).unwrap();
        let whole = patch_owned(MaybeOwned::shared(base), &[], &value).unwrap();
        assert!(!whole.is_owned());
        let other = patch_owned(whole, &[at(0, 0, 1)], &Tensor::new(&[0f32], &Device::Cpu).unwrap()).unwrap().into_tensor();
        assert_eq!(value.to_vec1::<f32>().unwrap(), [8.0, 9.0]);
        assert_eq!(other.to_vec1::<f32>().unwrap(), [0.0, 9.0]);
    }
}
