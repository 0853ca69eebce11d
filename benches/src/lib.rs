//! Times of nnsight and its peers on the same weights, and the comparison of results that precedes them.

pub mod experiments;
pub mod figure;
pub mod growth;
pub mod limits;
pub mod passes;
pub mod peers;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};

/// The model that everything is measured on.
pub type Model = nnsight::models::Llama<nnsight::models::SmolLm2_135M>;

/// Whatever may go wrong.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// candle-transformers' Llama.
pub struct Peer {
    model: Llama,
    config: Config,
}

impl Peer {
    /// Loads a Hugging Face folder in f32.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn load(folder: &Path) -> candle_core::Result<Self> {
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?).map_err(candle_core::Error::wrap)?;
        // It knows the older spelling only.
        if let Some(theta) = json["rope_parameters"]["rope_theta"].as_f64() {
            json["rope_theta"] = theta.into();
        }
        let config: LlamaConfig = serde_json::from_value(json).map_err(candle_core::Error::wrap)?;
        let config = config.into_config(false);
        let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
        let model = Llama::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config)?;
        Ok(Peer { model, config })
    }

    /// The logits at the last position.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn next_logits(&self, tokens: &[u32]) -> candle_core::Result<Tensor> {
        let mut cache = Cache::new(false, DType::F32, &self.config, &Device::Cpu)?;
        self.model.forward(&Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?, 0, &mut cache)
    }
}
