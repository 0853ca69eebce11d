//! Operations on two tensors of the same shape. Of 16 bits and `f32` the result is `f32`.

use candle_core::{CpuStorage, CustomOp2, InplaceOp2, Layout, Result, Shape, Tensor, bail};

use crate::cpu::entries_of;
use crate::cpu::pairs::{self, Pairwise};
use crate::dispatch::is_fused;
use crate::{MaybeOwned, is_half, reference, upcast};

/// `a + b`; in place of `a` if it is owned.
///
/// # Shapes
/// Both the same, as the result.
///
/// # Errors
/// If the shapes differ.
pub fn add(a: MaybeOwned, b: &Tensor) -> Result<MaybeOwned> {
    if is_fused(&[a.tensor(), b]) {
        return pairwise(a, b, Fused { name: "add", op: pairs::Add });
    }
    let a = a.tensor();
    Ok(MaybeOwned::fresh(if a.dtype() == b.dtype() { (a + b)? } else { (upcast(a)? + upcast(b)?)? }))
}

/// `a * b`
///
/// # Shapes
/// Both the same, as the result.
///
/// # Errors
/// If the shapes differ.
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype() == b.dtype() { a * b } else { upcast(a)? * upcast(b)? }
}

/// `silu(gate) * up`; in place of `gate` if it is owned. In 16 bits it is computed in `f32` and rounded once.
///
/// # Shapes
/// Both the same, as the result.
///
/// # Errors
/// If the shapes differ.
pub fn silu_mul(gate: MaybeOwned, up: &Tensor) -> Result<MaybeOwned> {
    let dtype = gate.dtype();
    if is_half(dtype) || is_half(up.dtype()) {
        let gate = if is_half(dtype) { gate.to_dtype(candle_core::DType::F32)? } else { gate };
        return silu_mul(gate, &upcast(up)?)?.to_dtype(dtype);
    }
    match is_fused(&[gate.tensor(), up]) {
        true => pairwise(gate, up, Fused { name: "silu_mul", op: pairs::SiluMul }),
        false => Ok(MaybeOwned::fresh(reference::silu_mul(gate.tensor(), up)?)),
    }
}

fn pairwise<O: Pairwise>(a: MaybeOwned, b: &Tensor, op: Fused<O>) -> Result<MaybeOwned> {
    if a.dims() != b.dims() {
        bail!("{}: shapes {:?} and {:?} differ", op.name, a.dims(), b.dims());
    }
    let b = b.contiguous()?;
    if let Some(target) = a.writable() {
        target.inplace_op2(&b, &op)?;
        return Ok(a);
    }
    Ok(MaybeOwned::fresh(a.tensor().contiguous()?.apply_op2_no_bwd(&b, &op)?))
}

/// In one pass over contiguous tensors.
struct Fused<O> {
    name: &'static str,
    op: O,
}

impl<O: Pairwise> CustomOp2 for Fused<O> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_layout: &Layout, b: &CpuStorage, b_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let result = pairs::computed(entries_of(a, a_layout)?, entries_of(b, b_layout)?, self.op);
        Ok((CpuStorage::F32(result), a_layout.shape().clone()))
    }
}

impl<O: Pairwise> InplaceOp2 for Fused<O> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, a_layout: &Layout, b: &CpuStorage, b_layout: &Layout) -> Result<()> {
        let CpuStorage::F32(a) = a else { bail!("{}: the result is not in f32", self.name) };
        let count = a_layout.shape().elem_count();
        pairs::in_place(&mut a[a_layout.start_offset()..][..count], entries_of(b, b_layout)?, self.op);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{close, random};

    #[test]
    fn the_same_as_in_steps_whatever_the_size_and_order() {
        let shared = |x: &Tensor| MaybeOwned::shared(x.clone());
        for width in [1, 33, 576] {
            for rows in [1, 7, 300] {
                let a = random(&[2, width, rows]).transpose(1, 2).unwrap();
                let b = random(&[2, rows, width]);
                close(&add(shared(&a), &b).unwrap().into_tensor(), &(&a + &b).unwrap(), 1e-5);
                let expected = (a.silu().unwrap() * &b).unwrap();
                close(&silu_mul(shared(&a), &b).unwrap().into_tensor(), &expected, 1e-5);
                let owned = MaybeOwned::copy_of(&a).unwrap();
                let same = owned.tensor().clone();
                close(&silu_mul(owned, &b).unwrap().into_tensor(), &expected, 1e-5);
                close(&same, &expected, 1e-5);
            }
        }
    }

    #[test]
    fn shapes_that_differ_are_refused() {
        assert!(add(MaybeOwned::shared(random(&[2, 3])), &random(&[3, 2])).is_err());
    }
}
