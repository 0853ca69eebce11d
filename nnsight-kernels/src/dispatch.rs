//! Which tensors the fused kernels take. No other file asks on which device a tensor is.

use candle_core::{DType, Device, Tensor};

/// Whether the fused kernels for `f32` take all of these: they are on the CPU, and no gradient is asked for.
pub(crate) fn is_fused(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !tensor.track_op())
}

/// Whether candle's own fused norms take all of these: they have no gradient, and do not exist for `f64`.
pub(crate) fn is_fused_by_candle(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| !tensor.track_op() && tensor.dtype() != DType::F64)
}

/// Whether a part of `base` can be overwritten in one pass over it; without, the tensor is put together anew, which has a gradient.
pub(crate) fn is_writable(base: &Tensor, value: &Tensor) -> bool {
    base.device().is_cpu() && !base.track_op() && !value.track_op()
}

/// Whether a product whose only gradient is that of its input has an operation of its own.
pub(crate) fn has_input_gradient_only(x: &Tensor, weight: &Tensor) -> bool {
    x.track_op() && !weight.track_op() && x.device().is_cpu()
}

/// Whether weights are packed into panels, or quantised, on a device.
pub(crate) fn packs_weights(device: &Device) -> bool {
    device.is_cpu()
}

/// Whether products, sums and norms of this tensor are accumulated in `f32` by the device itself, though its numbers have 16 bits. A gradient
/// through it is not.
pub fn accumulates_in_f32(tensor: &Tensor) -> bool {
    !tensor.device().is_cpu() && !tensor.track_op()
}
