//! What a GPT-2's config says.

use nnsight_lm::Sizes;

use super::file::Config;
use super::keys::{Fixed, Keys};
use crate::{Error, Result};

const KEYS: Keys = Keys {
    architecture: "gpt2",
    classes: &["GPT2LMHeadModel", "GPT2Model"],
    honoured: &[
        "activation_function",
        "hidden_size",
        "intermediate_size",
        "layer_norm_epsilon",
        "max_position_embeddings",
        "n_ctx",
        "n_embd",
        "n_head",
        "n_inner",
        "n_layer",
        "n_positions",
        "num_attention_heads",
        "num_hidden_layers",
        "tie_word_embeddings",
        "vocab_size",
    ],
    harmless: &[
        "n_special",
        "predict_special_tokens",
        // In which precision and order scores are computed, not what they are.
        "reorder_and_upcast_attn",
        // Of a head for classification.
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ],
    fixed: &[Fixed { key: "scale_attn_weights", values: &["true"] }, Fixed { key: "scale_attn_by_inverse_layer_idx", values: &["false", "null"] }],
};

/// What a GPT-2 needs to know.
#[derive(Clone, Debug)]
pub struct Gpt2Config {
    pub(crate) sizes: Sizes,
    pub(crate) layer_norm_epsilon: f64,
    pub(crate) tie_word_embeddings: bool,
}

impl Gpt2Config {
    /// Reads a config.
    ///
    /// # Errors
    /// As [`LlamaConfig::new`](crate::LlamaConfig::new).
    pub fn new(config: &Config) -> Result<Self> {
        let activation = config.text("activation_function", "gelu_new")?;
        // Three names for one approximation by a hyperbolic tangent.
        if !matches!(activation.as_str(), "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") {
            return Err(Error::refused("activation_function", &activation, "`gelu_new`"));
        }
        let sizes = config.sizes()?;
        config.check_keys(&KEYS)?;
        Ok(Gpt2Config {
            sizes,
            layer_norm_epsilon: config.number("layer_norm_epsilon", 1e-5, 1e-30..=1.0)?,
            tie_word_embeddings: config.flag("tie_word_embeddings", true)?,
        })
    }
}
