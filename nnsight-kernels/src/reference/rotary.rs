//! The rotary position embedding.

use candle_core::{D, Result, Tensor};

/// Rotates the two halves of every head by the angles of its position (Su et al. 2021).
///
/// # Shapes
/// `x`: `(Batch, Heads, Seq, HeadDim)`; `cos`, `sin`: `(Seq, HeadDim / 2)` or `(Batch, Seq, HeadDim / 2)`; the result has the shape of `x`.
///
/// # Errors
/// If the shapes do not fit.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let whole = |half: &Tensor| {
        let half = if half.rank() == 2 { half.unsqueeze(0)? } else { half.clone() };
        Tensor::cat(&[&half, &half], D::Minus1)?.unsqueeze(1)
    };
    let half = x.dim(D::Minus1)? / 2;
    let turned = Tensor::cat(&[&x.narrow(D::Minus1, half, half)?.neg()?, &x.narrow(D::Minus1, 0, half)?], D::Minus1)?;
    x.broadcast_mul(&whole(cos)?)? + turned.broadcast_mul(&whole(sin)?)?
}
