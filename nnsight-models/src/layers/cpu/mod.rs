//! What a pass over few positions spends its time in, on the CPU in `f32`: each a single pass over memory, spread over the threads where that
//! pays. There are no gradients here: the layers take candle's operations where one is asked for.

mod attention;
pub(super) mod back;
mod exp;
pub(super) mod panels;
pub(super) mod product;
mod rows;
mod widen;

pub(super) use attention::attention;
pub(super) use rows::{add, rms_norm, rotate, silu_mul};

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};

/// Whether tensors can be taken here.
pub(super) fn takes(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !tensor.track_op())
}

/// The entries of a tensor from its first on, and how they lie.
fn entries<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(entries)) => Ok(&entries[layout.start_offset()..]),
        _ => bail!("not in f32 on the CPU"),
    }
}

/// Entries below which a second thread costs more than it brings.
const SMALL: usize = 1 << 15;
