//! What is computed of two numbers at a time.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::exp::exp;
use super::filled::filled;
use super::{PART, SMALL};

/// Something computed of two numbers.
pub trait Pairwise: Copy + Sync {
    /// The results of two vectors.
    fn of<S: Simd>(self, simd: S, a: S::f32s, b: S::f32s) -> S::f32s;
}

/// `a + b`
#[derive(Clone, Copy)]
pub struct Add;

impl Pairwise for Add {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
}

/// `silu(gate) * up`
#[derive(Clone, Copy)]
pub struct SiluMul;

impl Pairwise for SiluMul {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, gate: S::f32s, up: S::f32s) -> S::f32s {
        let one_and_power = simd.add_f32s(simd.splat_f32s(1.0), exp(simd, simd.neg_f32s(gate)));
        simd.mul_f32s(simd.div_f32s(gate, one_and_power), up)
    }
}

/// Overwrites `a` with what is computed.
struct Pairs<'a, O> {
    a: &'a mut [f32],
    b: &'a [f32],
    op: O,
}

impl<O: Pairwise> WithSimd for Pairs<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ((a, a_rest), (b, b_rest)) = (S::as_mut_simd_f32s(self.a), S::as_simd_f32s(self.b));
        for (a, &b) in a.iter_mut().zip(b) {
            *a = self.op.of(simd, *a, b);
        }
        let rest = self.op.of(simd, simd.partial_load_f32s(a_rest), simd.partial_load_f32s(b_rest));
        simd.partial_store_f32s(a_rest, rest);
    }
}

/// What an operation computes of two slices of the same length.
pub fn computed(a: &[f32], b: &[f32], op: impl Pairwise) -> Vec<f32> {
    let arch = Arch::new();
    filled(a.len(), PART, |first, part| {
        part.copy_from_slice(&a[first..first + part.len()]);
        let b = &b[first..first + part.len()];
        arch.dispatch(Pairs { a: part, b, op });
    })
}

/// As [`computed`], in place of `a`.
pub fn in_place(a: &mut [f32], b: &[f32], op: impl Pairwise) {
    let arch = Arch::new();
    let run = |(a, b)| arch.dispatch(Pairs { a, b, op });
    match a.len() <= SMALL {
        true => run((a, b)),
        false => a.par_chunks_mut(PART).zip(b.par_chunks(PART)).for_each(run),
    }
}
