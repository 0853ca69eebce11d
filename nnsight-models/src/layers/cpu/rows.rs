//! What is done row by row.

use candle_core::{CpuStorage, D, InplaceOp2, Layout, Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::exp::exp;
use super::{SMALL, entries, filled};

/// Something to be compiled for the widest vectors.
struct Vectors<F>(F);

impl<F: FnOnce()> WithSimd for Vectors<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        (self.0)();
    }
}

/// The rows that something computes, some of them to a task.
fn rows(count: usize, width: usize, body: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let arch = Arch::new();
    let some = PART.div_ceil(width);
    filled(count * width, some * width, |first, part| {
        arch.dispatch(Vectors(|| part.chunks_mut(width).enumerate().for_each(|(index, row)| body(first / width + index, row))));
    })
}

/// Something computed of two numbers.
trait Pairwise: Copy + Sync {
    fn of<S: Simd>(self, simd: S, a: S::f32s, b: S::f32s) -> S::f32s;
}

/// `a + b`
#[derive(Clone, Copy)]
struct Add;

impl Pairwise for Add {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
}

/// `silu(gate) * up`
#[derive(Clone, Copy)]
struct SiluMul;

impl Pairwise for SiluMul {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, gate: S::f32s, up: S::f32s) -> S::f32s {
        let one_and_power = simd.add_f32s(simd.splat_f32s(1.0), exp(simd, simd.neg_f32s(gate)));
        simd.mul_f32s(simd.div_f32s(gate, one_and_power), up)
    }
}

/// Puts what is computed in the place of `a`.
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

/// `a + b`, of the same shape; `own` as in the layers' own.
///
/// # Errors
/// Where the shapes differ.
pub fn add(a: &Tensor, b: &Tensor, own: bool) -> Result<Tensor> {
    pairs(a, b, own, Add)
}

/// `silu(gate) * up`, of the same shape; `own` as in the layers' own.
///
/// # Errors
/// Where the shapes differ.
pub fn silu_mul(gate: &Tensor, up: &Tensor, own: bool) -> Result<Tensor> {
    pairs(gate, up, own, SiluMul)
}

/// Entries that are computed by one task.
const PART: usize = SMALL / 4;

fn pairs(a: &Tensor, b: &Tensor, own: bool, op: impl Pairwise) -> Result<Tensor> {
    if a.shape() != b.shape() {
        bail!("shapes {:?} and {:?} differ", a.dims(), b.dims());
    }
    let b = b.contiguous()?;
    if own && a.is_contiguous() {
        a.inplace_op2(&b, &InPlace(op))?;
        return Ok(a.clone());
    }
    let a = a.contiguous()?;
    let ((a_storage, a_layout), (b_storage, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
    let (x, y) = (entries(&a_storage, a_layout)?, entries(&b_storage, b_layout)?);
    let arch = Arch::new();
    let result = filled(a.elem_count(), PART, |first, part| {
        part.copy_from_slice(&x[first..first + part.len()]);
        let b = &y[first..first + part.len()];
        arch.dispatch(Pairs { a: part, b, op });
    });
    Tensor::from_vec(result, a.shape(), a.device())
}

/// Puts what an operation gives for two tensors in the place of the first.
struct InPlace<O>(O);

impl<O: Pairwise> InplaceOp2 for InPlace<O> {
    fn name(&self) -> &'static str {
        "in place"
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, a_layout: &Layout, b: &CpuStorage, b_layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(a), CpuStorage::F32(b)) = (a, b) else { bail!("not in f32") };
        let count = a_layout.shape().elem_count();
        let (a, b) = (&mut a[a_layout.start_offset()..][..count], &b[b_layout.start_offset()..][..count]);
        let arch = Arch::new();
        let run = |(a, b)| arch.dispatch(Pairs { a, b, op: self.0 });
        match count <= SMALL {
            true => run((a, b)),
            false => a.par_chunks_mut(PART).zip(b.par_chunks(PART)).for_each(run),
        }
        Ok(())
    }
}

/// `x / sqrt(mean(x^2) + epsilon) * weight` along the innermost axis.
///
/// # Errors
/// Where the weight is of another size.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if weight.dims() != [width] {
        bail!("a norm with weights {:?} of {:?}", weight.dims(), x.dims());
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let ((storage, layout), (weight_storage, weight_layout)) = (x.storage_and_layout(), weight.storage_and_layout());
    let (entries_of_x, weights) = (entries(&storage, layout)?, entries(&weight_storage, weight_layout)?);
    let result = rows(x.elem_count() / width, width, |index, row| {
        let x = &entries_of_x[index * width..(index + 1) * width];
        // Sixteen sums side by side, so that they are made in vectors.
        let mut sums = [0f32; 16];
        let (chunks, rest) = x.as_chunks::<16>();
        chunks.iter().for_each(|chunk| sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x * x));
        let sum = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
        let scale = 1.0 / (sum / width as f32 + epsilon).sqrt();
        for ((entry, x), weight) in row.iter_mut().zip(x).zip(weights) {
            *entry = x * scale * weight;
        }
    });
    Tensor::from_vec(result, x.shape(), x.device())
}

/// Turns the two halves of every head by the angles of its position.
///
/// # Shapes
/// `x`: `(Batch, Heads, Seq, HeadDim)`, a view of one that lies as `(Batch, Seq, Heads, HeadDim)`, as the result does; `cos` and `sin`:
/// `(Seq, HeadDim / 2)`, or with a batch before that.
///
/// # Errors
/// Where the shapes do not fit.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (batch, heads, width, size) = x.dims4()?;
    let half = size / 2;
    let lying = x.transpose(1, 2)?.contiguous()?;
    let (cos, sin) = (cos.contiguous()?, sin.contiguous()?);
    let whole = match cos.rank() {
        2 => width * half,
        _ => batch * width * half,
    };
    if cos.elem_count() != whole || sin.elem_count() != whole {
        bail!("angles {:?} for {:?}", cos.dims(), x.dims());
    }
    let ((storage, layout), (cos_storage, cos_layout), (sin_storage, sin_layout)) =
        (lying.storage_and_layout(), cos.storage_and_layout(), sin.storage_and_layout());
    let (all, cosines, sines) = (entries(&storage, layout)?, entries(&cos_storage, cos_layout)?, entries(&sin_storage, sin_layout)?);
    let result = rows(batch * width, heads * size, |position, row| {
        let start = position * half % whole;
        let (cos, sin) = (&cosines[start..start + half], &sines[start..start + half]);
        let x = &all[position * heads * size..(position + 1) * heads * size];
        for (row, x) in row.chunks_mut(size).zip(x.chunks(size)) {
            let ((low, high), (x_low, x_high)) = (row.split_at_mut(half), x.split_at(half));
            let turned = low.iter_mut().zip(high).zip(x_low.iter().zip(x_high)).zip(cos.iter().zip(sin));
            for (((low, high), (x, y)), (cos, sin)) in turned {
                *low = x * cos - y * sin;
                *high = x * sin + y * cos;
            }
        }
    });
    Tensor::from_vec(result, (batch, width, heads, size), x.device())?.transpose(1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    fn same(a: Tensor, b: Tensor) {
        let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn the_same_as_in_steps_whatever_the_size_and_order() {
        for width in [1, 33, 576] {
            for rows in [1, 7, 300] {
                let a = random(&[2, width, rows]).transpose(1, 2).unwrap();
                let b = random(&[2, rows, width]);
                same(add(&a, &b, false).unwrap(), (&a + &b).unwrap());
                let expected = (a.silu().unwrap() * &b).unwrap();
                same(silu_mul(&a, &b, false).unwrap(), expected.clone());
                let own = a.force_contiguous().unwrap();
                same(silu_mul(&own, &b, true).unwrap(), expected.clone());
                same(own, expected);
                let weight = random(&[width]);
                same(rms_norm(&a, &weight, 1e-5).unwrap(), candle_nn::ops::rms_norm(&a.contiguous().unwrap(), &weight, 1e-5).unwrap());
            }
        }
    }

    #[test]
    fn rotation_is_that_of_candle() {
        let x = random(&[2, 5, 3, 16]).transpose(1, 2).unwrap();
        for shape in [&[5, 8][..], &[2, 5, 8]] {
            let (cos, sin) = (random(shape), random(shape));
            same(rotate(&x, &cos, &sin).unwrap(), candle_nn::rotary_emb::rope(&x.contiguous().unwrap(), &cos, &sin).unwrap());
        }
    }

    #[test]
    fn shapes_that_differ_are_refused() {
        assert!(add(&random(&[2, 3]), &random(&[3, 2]), false).is_err());
        assert!(rms_norm(&random(&[2, 3]), &random(&[2]), 1e-5).is_err());
        assert!(rotate(&random(&[1, 2, 3, 4]), &random(&[2, 2]), &random(&[2, 2])).is_err());
    }
}
