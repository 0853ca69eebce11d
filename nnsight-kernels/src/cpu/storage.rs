//! The entries of tensors as slices.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, Storage, bail};

/// The entries of a contiguous tensor.
///
/// # Errors
/// If it is not contiguous, or not in `f32`.
pub fn entries_of<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(entries), Some((start, end))) => Ok(&entries[start..end]),
        (CpuStorage::F32(_), None) => bail!("a tensor of shape {:?} is not contiguous: its strides are {:?}", layout.dims(), layout.stride()),
        (other, _) => bail!("a tensor of type {:?} instead of f32", other.dtype()),
    }
}

/// The entries of a tensor from its first on, with those between and after them.
///
/// # Errors
/// If it is not in `f32`.
pub fn from_first<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        CpuStorage::F32(entries) => Ok(&entries[layout.start_offset()..]),
        other => bail!("a tensor of type {:?} instead of f32", other.dtype()),
    }
}

/// [`entries_of`] a tensor's storage.
///
/// # Errors
/// As [`entries_of`], and if it is not on the CPU.
pub fn entries<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => entries_of(storage, layout),
        _ => bail!("a tensor on another device in a kernel for the CPU"),
    }
}
