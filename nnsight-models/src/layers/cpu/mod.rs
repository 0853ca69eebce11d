//! What a pass over few positions spends its time in, on the CPU in `f32`: each a single pass over memory, spread over the threads where that
//! pays. There are no gradients here: the layers take candle's operations where one is asked for.

mod attention;
pub(super) mod back;
mod columns;
mod exp;
pub(super) mod panels;
pub(super) mod product;
mod rows;
mod widen;

pub(super) use attention::attention;
pub(super) use rows::{add, rms_norm, rotate, silu_mul};

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

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

/// Entries that something computes, `part` of them at a time: from which on, and those themselves, zero as yet. They are not filled with zeros by one
/// thread first, which takes longer than most of what is computed here.
fn filled(count: usize, part: usize, compute: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut result = Vec::with_capacity(count);
    let run = |(index, some): (usize, &mut [MaybeUninit<f32>])| {
        some.fill(MaybeUninit::new(0.0));
        // SAFETY: all of them were just written.
        compute(index * part, unsafe { some.assume_init_mut() });
    };
    let all = &mut result.spare_capacity_mut()[..count];
    match count <= SMALL {
        true => all.chunks_mut(part).enumerate().for_each(run),
        false => all.par_chunks_mut(part).enumerate().for_each(run),
    }
    // SAFETY: the parts are all of them.
    unsafe { result.set_len(count) };
    result
}

/// Entries below which a second thread costs more than it brings.
const SMALL: usize = 1 << 14;
