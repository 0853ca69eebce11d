//! What a Llama's config says.

use nnsight_lm::Sizes;
use serde_json::Value;

use super::file::Config;
use super::keys::{Fixed, Keys};
use super::rope::rope;
use crate::layers::Scaling;
use crate::{Error, Result};

const KEYS: Keys = Keys {
    architecture: "llama",
    classes: &["LlamaForCausalLM", "LlamaModel", "LLaMAForCausalLM", "MistralForCausalLM"],
    honoured: &[
        "attention_bias",
        "head_dim",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "layer_types",
        "max_position_embeddings",
        "mlp_bias",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "tie_word_embeddings",
        "use_sliding_window",
        "vocab_size",
    ],
    harmless: &[
        "is_llama_config",
        // Which layers have the sliding window, which itself is honoured or refused.
        "max_window_layers",
        // In how many parts products were computed: the results are the same.
        "pretraining_tp",
    ],
    fixed: &[
        Fixed { key: "rope_interleaved", values: &["false"] },
        Fixed { key: "use_qk_norm", values: &["false"] },
        Fixed { key: "qk_norm", values: &["false"] },
        Fixed { key: "bias", values: &["false"] },
    ],
};

/// What a Llama needs to know.
#[derive(Clone, Debug)]
pub struct LlamaConfig {
    pub(crate) sizes: Sizes,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) rope_scaling: Scaling,
    pub(crate) tie_word_embeddings: bool,
    pub(crate) attention_bias: bool,
    pub(crate) mlp_bias: bool,
}

impl LlamaConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// [`Error::Config`] if something is missing, out of bounds, or asks for what this Llama does not do; [`Error::UnknownKeys`] if a key is not
    /// known.
    pub fn new(config: &Config) -> Result<Self> {
        let activation = config.text("hidden_act", "silu")?;
        if !matches!(activation.as_str(), "silu" | "swish") {
            return Err(Error::refused("hidden_act", &activation, "`silu`"));
        }
        let sizes = config.sizes()?;
        let (rope_theta, rope_scaling) = rope(config, sizes.head_dim)?;
        full_attention(config, sizes.context)?;
        config.check_keys(&KEYS)?;
        Ok(LlamaConfig {
            sizes,
            rms_norm_eps: config.number("rms_norm_eps", 1e-6, 1e-30..=1.0)?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: config.flag("tie_word_embeddings", false)?,
            attention_bias: config.flag("attention_bias", false)?,
            mlp_bias: config.flag("mlp_bias", false)?,
        })
    }
}

/// Refuses attention that does not see all that came before. A window as long as the context sees all of it.
fn full_attention(config: &Config, context: usize) -> Result<()> {
    let in_use = config.get("use_sliding_window").is_none() || config.flag("use_sliding_window", true)?;
    match config.optional(&["sliding_window"])? {
        Some(window) if in_use && window < context => {
            return Err(Error::refused("sliding_window", window, &format!("`null`, or at least the context of {context}")));
        }
        None if in_use && config.get("use_sliding_window").is_some() => {
            return Err(Error::Config("`use_sliding_window` is `true`, and there is no `sliding_window`".into()));
        }
        _ => {}
    }
    let Some(layers) = config.get("layer_types") else { return Ok(()) };
    match layers.as_array().map(|layers| layers.iter().find(|layer| layer.as_str() != Some("full_attention"))) {
        Some(None) => Ok(()),
        Some(Some(Value::String(other))) => Err(Error::refused("layer_types", other, "`full_attention` in every layer")),
        _ => Err(Error::refused("layer_types", layers, "a list of `full_attention`")),
    }
}
