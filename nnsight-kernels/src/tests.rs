//! What the tests beside the kernels share.

use candle_core::{Device, Tensor};

pub fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

pub fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
}

pub fn close(a: &Tensor, b: &Tensor, bound: f32) {
    let difference = difference(a, b);
    assert!(difference < bound, "{difference}");
}
