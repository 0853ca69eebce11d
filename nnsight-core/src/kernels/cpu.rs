//! Writing into a part of a tensor on the CPU: one copy of the tensor, one pass over the part.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use super::Extent;

/// As [`patch`](super::patch).
///
/// # Errors
/// As [`patch`](super::patch).
pub fn patch(base: &Tensor, extents: &[Extent], value: &Tensor, own: &mut bool) -> Result<Tensor> {
    let write = Write::new(base, extents)?;
    let value = value.broadcast_as(write.sizes.as_slice())?.contiguous()?;
    if write.is_whole(base) {
        *own = false;
        return Ok(value);
    }
    // Values that were read share the storage of `base`: it is not written to as long as it may have been.
    let target = match (*own, base.is_contiguous()) {
        (true, true) => base.clone(),
        (false, true) => base.copy()?,
        (_, false) => base.force_contiguous()?,
    };
    target.inplace_op2(&value, &write)?;
    *own = true;
    Ok(target)
}

/// Writes the second tensor into a box of the first.
struct Write {
    starts: Vec<usize>,
    sizes: Vec<usize>,
}

impl Write {
    fn new(base: &Tensor, extents: &[Extent]) -> Result<Self> {
        let mut starts = vec![0; base.rank()];
        let mut sizes = base.dims().to_vec();
        for Extent { axis, span } in extents {
            if *axis >= sizes.len() || span.start + span.len > sizes[*axis] {
                bail!("the part {extents:?} lies outside of a tensor of shape {:?}", base.dims());
            }
            starts[*axis] += span.start;
            sizes[*axis] = span.len;
        }
        Ok(Write { starts, sizes })
    }

    fn is_whole(&self, base: &Tensor) -> bool {
        self.starts.iter().all(|&start| start == 0) && self.sizes == base.dims()
    }
}

impl Write {
    fn copy<T: Copy>(&self, target: &mut [T], layout: &Layout, source: &[T], from: usize) {
        let strides = layout.stride();
        let rank = self.sizes.len();
        let run = self.sizes.last().copied().unwrap_or(1);
        let runs = self.sizes[..rank.saturating_sub(1)].iter().product::<usize>();
        let corner = self.starts.iter().zip(strides).map(|(start, stride)| start * stride).sum::<usize>();
        for index in 0..runs {
            let mut rest = index;
            let mut offset = layout.start_offset() + corner;
            for axis in (0..rank.saturating_sub(1)).rev() {
                offset += rest % self.sizes[axis] * strides[axis];
                rest /= self.sizes[axis];
            }
            target[offset..offset + run].copy_from_slice(&source[from + index * run..from + (index + 1) * run]);
        }
    }
}

impl InplaceOp2 for Write {
    fn name(&self) -> &'static str {
        "patch"
    }

    fn cpu_fwd(&self, target: &mut CpuStorage, layout: &Layout, source: &CpuStorage, source_layout: &Layout) -> Result<()> {
        let from = source_layout.start_offset();
        match (target, source) {
            (CpuStorage::F32(target), CpuStorage::F32(source)) => self.copy(target, layout, source, from),
            (CpuStorage::F64(target), CpuStorage::F64(source)) => self.copy(target, layout, source, from),
            (CpuStorage::BF16(target), CpuStorage::BF16(source)) => self.copy(target, layout, source, from),
            (CpuStorage::F16(target), CpuStorage::F16(source)) => self.copy(target, layout, source, from),
            (CpuStorage::U8(target), CpuStorage::U8(source)) => self.copy(target, layout, source, from),
            (CpuStorage::U32(target), CpuStorage::U32(source)) => self.copy(target, layout, source, from),
            (CpuStorage::I64(target), CpuStorage::I64(source)) => self.copy(target, layout, source, from),
            (target, _) => bail!("a part of a tensor of type {:?} cannot be replaced", target.dtype()),
        }
        Ok(())
    }
}
