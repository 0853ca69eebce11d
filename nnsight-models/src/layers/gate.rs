//! The gate of a gated MLP as one pass over memory.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `silu(gate) * up`, entry by entry.
///
/// # Errors
/// Where the shapes differ.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let fused = gate.device().is_cpu() && gate.dtype() == DType::F32 && !gate.track_op() && !up.track_op();
    match fused {
        true => gate.contiguous()?.apply_op2_no_bwd(&up.contiguous()?, &SiluMul),
        false => gate.silu()?.mul(up),
    }
}

struct SiluMul;

/// Entries that one task takes: enough that starting it costs nothing beside them.
const CHUNK: usize = 4096;

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, gate_layout: &Layout, up: &CpuStorage, up_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(gate), CpuStorage::F32(up)) = (gate, up) else { bail!("silu-mul is for f32") };
        let (Some((a, b)), Some((c, d))) = (gate_layout.contiguous_offsets(), up_layout.contiguous_offsets()) else {
            bail!("silu-mul is for contiguous tensors")
        };
        if gate_layout.shape() != up_layout.shape() {
            bail!("silu-mul of {:?} and {:?}", gate_layout.shape(), up_layout.shape());
        }
        let (gate, up) = (&gate[a..b], &up[c..d]);
        let mut result = vec![0f32; gate.len()];
        let chunks = result.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
        chunks.for_each(|((result, gate), up)| {
            for ((result, gate), up) in result.iter_mut().zip(gate).zip(up) {
                *result = gate / (1.0 + (-gate).exp()) * up;
            }
        });
        Ok((CpuStorage::F32(result), gate_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_same_as_in_two_steps() {
        let gate = Tensor::randn(0f32, 3.0, (2, 7, 1000), &Device::Cpu).unwrap();
        let up = Tensor::randn(0f32, 1.0, (2, 1000, 7), &Device::Cpu).unwrap().transpose(1, 2).unwrap();
        let fused = silu_mul(&gate, &up).unwrap();
        let steps = (gate.silu().unwrap() * up).unwrap();
        let difference = (fused - steps).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 1e-6, "{difference}");
    }
}
