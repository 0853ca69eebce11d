//! Whether weights are finite.
//!
//! Entries are looked at piece by piece as they are read, while they are in the processor's cache. An entry is not finite if all bits of its exponent
//! are set, which compares many at a time.

use candle_core::{CpuStorage, DType, Storage, Tensor};
use half::{bf16, f16};

use crate::{Error, Result};

/// Bytes that are read and looked at in one go.
pub const PIECE: usize = 1 << 19;

/// An entry, and how it is seen whether it is finite.
pub trait Entry: Copy {
    fn is_finite(self) -> bool;
    fn value(self) -> f64;
}

macro_rules! entry {
    ($type:ty, $bits:ty, $exponent:literal, $value:expr) => {
        impl Entry for $type {
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.to_bits() & $exponent != $exponent
            }
            fn value(self) -> f64 {
                $value(self)
            }
        }
    };
}
entry!(f32, u32, 0x7f80_0000, f64::from);
entry!(f64, u64, 0x7ff0_0000_0000_0000, |x| x);
entry!(f16, u16, 0x7c00, f64::from);
entry!(bf16, u16, 0x7f80, f64::from);

/// Whether all entries are finite. Without a branch in the loop, so that it is compiled to vectors.
fn all<T: Copy>(entries: &[T], is_finite: impl Fn(T) -> bool) -> bool {
    entries.chunks(4096).all(|chunk| chunk.iter().fold(true, |all, entry| all & is_finite(*entry)))
}

/// Whether all entries of some bytes are finite. Types that have no infinities are.
pub fn bytes(bytes: &[u8], dtype: DType) -> bool {
    fn of<T: bytemuck::AnyBitPattern>(bytes: &[u8], is_finite: impl Fn(T) -> bool) -> bool {
        match bytemuck::try_cast_slice::<u8, T>(bytes) {
            Ok(entries) => all(entries, is_finite),
            // Not aligned, which an allocation of this size is.
            Err(_) => bytes.chunks_exact(size_of::<T>()).all(|entry| is_finite(bytemuck::pod_read_unaligned(entry))),
        }
    }
    match dtype {
        DType::F32 => of(bytes, <f32 as Entry>::is_finite),
        DType::F64 => of(bytes, <f64 as Entry>::is_finite),
        DType::F16 => of(bytes, |bits| Entry::is_finite(f16::from_bits(bits))),
        DType::BF16 => of(bytes, |bits| Entry::is_finite(bf16::from_bits(bits))),
        _ => true,
    }
}

/// Refuses a tensor on the CPU that has entries which are not finite.
pub fn check(name: &str, tensor: &Tensor) -> Result<()> {
    fn of<T: Entry>(name: &str, entries: &[T]) -> Result<()> {
        if all(entries, T::is_finite) {
            return Ok(());
        }
        let mut wrong = entries.iter().enumerate().filter(|(_, entry)| !entry.is_finite());
        match wrong.next() {
            None => Ok(()),
            Some((entry, value)) => Err(Error::NotFinite { name: name.to_string(), entry, value: value.value(), count: 1 + wrong.count() }),
        }
    }
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else { return Ok(()) };
    match storage {
        CpuStorage::F32(entries) => of(name, &entries[start..end]),
        CpuStorage::F64(entries) => of(name, &entries[start..end]),
        CpuStorage::F16(entries) => of(name, &entries[start..end]),
        CpuStorage::BF16(entries) => of(name, &entries[start..end]),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_among_many_is_found_in_every_type() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 4095, 4096, 9999] {
                let mut entries = vec![f32::MAX; 10_000];
                assert!(all(&entries, f32::is_finite) && bytes(bytemuck::cast_slice(&entries), DType::F32));
                entries[at] = value;
                assert!(!all(&entries, f32::is_finite) && !bytes(bytemuck::cast_slice(&entries), DType::F32));
                let tensor = Tensor::new(entries, &candle_core::Device::Cpu).unwrap();
                for dtype in [DType::F32, DType::F64, DType::BF16] {
                    let error = check("w", &tensor.to_dtype(dtype).unwrap()).unwrap_err();
                    assert!(matches!(error, Error::NotFinite { entry, .. } if entry == at || dtype == DType::BF16), "{error}");
                }
            }
        }
        let small = Tensor::new(&[65504f32, -65504.0, 0.0], &candle_core::Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
        check("w", &small).unwrap();
        let large = Tensor::new(&[1f32, 1e6], &candle_core::Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
        assert!(matches!(check("w", &large), Err(Error::NotFinite { entry: 1, count: 1, .. })));
    }
}
