//! What the tests share: models, prompts and comparisons.

use std::path::PathBuf;
use std::sync::OnceLock;

use nnsight::candle_core::{self, safetensors};
use nnsight::prelude::*;

pub const EIFFEL: &str = "The Eiffel Tower is in the city of";
pub const CLEAN: &str = "When John and Mary went to the store, John gave a drink to";
pub const CORRUPTED: &str = "When John and Mary went to the store, Mary gave a drink to";

/// SmolLM2-135M with real weights.
pub fn smollm2() -> &'static Llama<SmolLm2_135M> {
    static MODEL: OnceLock<Llama<SmolLm2_135M>> = OnceLock::new();
    MODEL.get_or_init(|| Llama::load(Source::default()).expect("the default model can be had"))
}

/// A tiny random Llama with three layers, as transformers wrote it.
pub fn tiny_llama() -> &'static Llama<Dynamic> {
    static MODEL: OnceLock<Llama<Dynamic>> = OnceLock::new();
    MODEL.get_or_init(|| Llama::load(Source::from(folder("tests/reference/llama"))).expect("the reference checkpoint is in the repository"))
}

/// A tiny random GPT-2 with three layers, as transformers wrote it.
pub fn tiny_gpt2() -> &'static Gpt2<Dynamic> {
    static MODEL: OnceLock<Gpt2<Dynamic>> = OnceLock::new();
    MODEL.get_or_init(|| Gpt2::load(Source::from(folder("tests/reference/gpt2"))).expect("the reference checkpoint is in the repository"))
}

pub fn folder(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The tensors of a file of `tests/`.
pub fn tensors(path: &str) -> std::collections::HashMap<String, candle_core::Tensor> {
    safetensors::load(folder(path), &Device::Cpu).expect("the file is in the repository")
}

/// The largest difference between two tensors, entry by entry.
pub fn difference(a: &candle_core::Tensor, b: &candle_core::Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let flat = |t: &candle_core::Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    (flat(a) - flat(b)).unwrap().abs().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Euclidean norm of the difference, relative to the norm of `b`.
pub fn relative(a: &candle_core::Tensor, b: &candle_core::Tensor) -> f64 {
    let flat = |t: &candle_core::Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    let norm = |t: candle_core::Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    norm((flat(a) - flat(b)).unwrap()) / norm(flat(b))
}

/// Whether two tensors are the same, bit for bit.
pub fn identical(a: &candle_core::Tensor, b: &candle_core::Tensor) -> bool {
    let bits = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    a.dims() == b.dims() && bits(a) == bits(b)
}

/// The numbers of a tensor.
pub fn numbers(t: &candle_core::Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// How many cases a property is tried on: `PROPTEST_CASES`, else this many.
pub fn cases(few: u32) -> proptest::prelude::ProptestConfig {
    let default = proptest::prelude::ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => proptest::prelude::ProptestConfig { cases: few, ..default },
    }
}
