//! The product with weights.

use candle_core::{Result, Tensor};

/// `x W`
///
/// # Shapes
/// `x`: `(…, In)`; `weight`: `(In, Out)`; the result: `(…, Out)`.
///
/// # Errors
/// If the shapes do not fit, or the types differ.
pub fn matmul(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    // One product over all rows is much faster than one for each prompt.
    let (inner, outer) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(outer);
    x.reshape((x.elem_count() / inner.max(1), inner))?.matmul(weight)?.reshape(dims)
}
