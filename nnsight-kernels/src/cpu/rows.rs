//! What is done row by row.

use pulp::{Arch, Simd, WithSimd};

use super::PART;
use super::filled::filled;

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
    if width == 0 {
        return Vec::new();
    }
    let arch = Arch::new();
    let some = PART.div_ceil(width);
    filled(count * width, some * width, |first, part| {
        arch.dispatch(Vectors(|| part.chunks_mut(width).enumerate().for_each(|(index, row)| body(first / width + index, row))));
    })
}

/// `x / sqrt(mean(x^2) + epsilon) * weight` of each row, which is as long as the weights.
pub fn rms_norm(entries: &[f32], weights: &[f32], epsilon: f32) -> Vec<f32> {
    let width = weights.len();
    rows(entries.len() / width.max(1), width, |index, row| {
        let x = &entries[index * width..(index + 1) * width];
        // Sixteen sums side by side, so that they are made in vectors.
        let mut sums = [0f32; 16];
        let (chunks, rest) = x.as_chunks::<16>();
        chunks.iter().for_each(|chunk| sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x * x));
        let sum = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
        let scale = 1.0 / (sum / width as f32 + epsilon).sqrt();
        for ((entry, x), weight) in row.iter_mut().zip(x).zip(weights) {
            *entry = x * scale * weight;
        }
    })
}

/// Rotates the two halves of every head by the angles of its position.
///
/// # Shapes
/// `entries`: `(Batch, Seq, Heads, HeadDim)`, as the result; `cosines`, `sines`: `(Seq, HeadDim / 2)` or `(Batch, Seq, HeadDim / 2)`.
pub fn rotate(entries: &[f32], cosines: &[f32], sines: &[f32], (heads, size): (usize, usize)) -> Vec<f32> {
    let (half, width) = (size / 2, heads * size);
    rows(entries.len() / width.max(1), width, |position, row| {
        let start = (position * half).checked_rem(cosines.len()).unwrap_or(0);
        let (cos, sin) = (&cosines[start..start + half], &sines[start..start + half]);
        let x = &entries[position * width..(position + 1) * width];
        for (row, x) in row.chunks_mut(size).zip(x.chunks(size)) {
            let ((low, high), (x_low, x_high)) = (row.split_at_mut(half), x.split_at(half));
            let turned = low.iter_mut().zip(high).zip(x_low.iter().zip(x_high)).zip(cos.iter().zip(sin));
            for (((low, high), (x, y)), (cos, sin)) in turned {
                *low = x * cos - y * sin;
                *high = x * sin + y * cos;
            }
        }
    })
}
