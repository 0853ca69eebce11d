//! Checkpoint configurations, in both spellings that transformers has used.

use nnsight_core::types::{Signature, Sizes};
use serde_json::Value;

use crate::layers::Scaling;
use crate::{Error, Result};

/// A `config.json`, or what a GGUF file says in its place.
#[derive(Clone, Debug)]
pub struct Config {
    json: Value,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not one.
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).map_err(|error| Error::Config(format!("it is not JSON: {error}")))?;
        Ok(Config { json })
    }

    /// As a `config.json`.
    pub fn to_json(&self) -> String {
        format!("{:#}", self.json)
    }

    pub(crate) fn from_value(json: Value) -> Self {
        Config { json }
    }

    /// The architecture: `llama`, `gpt2`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not named.
    pub fn model_type(&self) -> Result<&str> {
        self.json["model_type"].as_str().ok_or_else(|| Error::Config("it has no `model_type`".into()))
    }

    /// The tokens that end a text (`eos_token_id`, one or a list).
    pub fn end_tokens(&self) -> Vec<u32> {
        let ids = &self.json["eos_token_id"];
        let all = ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice);
        all.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
    }

    fn size(&self, names: &[&str]) -> Result<usize> {
        self.optional(names).ok_or_else(|| Error::Config(format!("it has no `{}`", names.join("` or `"))))
    }

    fn optional(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.json[*name].as_u64()).and_then(|size| usize::try_from(size).ok())
    }

    fn number(&self, name: &str, default: f64) -> f64 {
        self.json[name].as_f64().unwrap_or(default)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.json[name].as_bool().unwrap_or(default)
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.json[name].as_str().unwrap_or(default).to_string()
    }

    fn refuse(&self, name: &str, found: &str, known: &str) -> Error {
        Error::Config(format!("`{name}` is `{found}`; what can be run is {known}"))
    }

    /// The sizes.
    ///
    /// # Errors
    /// [`Error::Config`] where one is missing or impossible.
    pub fn sizes(&self) -> Result<Sizes> {
        let hidden = self.size(&["hidden_size", "n_embd"])?;
        let heads = self.size(&["num_attention_heads", "n_head"])?;
        let kv_heads = self.optional(&["num_key_value_heads"]).unwrap_or(heads);
        let layers = self.size(&["num_hidden_layers", "n_layer"])?;
        let vocab = self.size(&["vocab_size"])?;
        let context = self.size(&["max_position_embeddings", "n_positions"])?;
        let mlp = self.optional(&["intermediate_size", "n_inner"]).unwrap_or(hidden.saturating_mul(4));
        let head_dim = self.optional(&["head_dim"]).or(hidden.checked_div(heads)).unwrap_or(0);
        let all = [hidden, heads, kv_heads, layers, vocab, context, mlp, head_dim];
        if all.iter().any(|&size| size == 0 || size > 1 << 28) || heads % kv_heads != 0 || !head_dim.is_multiple_of(2) {
            return Err(Error::Config(format!(
                "its sizes are impossible: hidden {hidden}, heads {heads}, key and value heads {kv_heads}, head {head_dim}, layers {layers}, \
                 vocabulary {vocab}, context {context}, MLP {mlp}"
            )));
        }
        let (heads_hidden, kv_hidden) = (heads * head_dim, kv_heads * head_dim);
        let qkv = heads_hidden + 2 * kv_hidden;
        Ok(Sizes { hidden, mlp, heads, kv_heads, head_dim, heads_hidden, kv_hidden, qkv, vocab, layers, context })
    }

    /// Holds the config against a signature.
    ///
    /// # Errors
    /// [`Error::OtherCheckpoint`] names the first size that differs.
    pub fn check<C: Signature>(&self) -> Result<()> {
        let Some(expected) = C::SIZES else { return Ok(()) };
        let found = self.sizes()?;
        for ((field, expected), (_, found)) in expected.fields().into_iter().zip(found.fields()) {
            if expected != found {
                return Err(Error::OtherCheckpoint { signature: C::NAME, field, expected, found });
            }
        }
        Ok(())
    }
}

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
    /// [`Error::Config`] where something is missing, or asks for what this Llama does not do.
    pub fn new(config: &Config) -> Result<Self> {
        let activation = config.text("hidden_act", "silu");
        if activation != "silu" {
            return Err(config.refuse("hidden_act", &activation, "`silu`"));
        }
        let (rope_theta, rope_scaling) = rope(config)?;
        Ok(LlamaConfig {
            sizes: config.sizes()?,
            rms_norm_eps: config.number("rms_norm_eps", 1e-6),
            rope_theta,
            rope_scaling,
            tie_word_embeddings: config.flag("tie_word_embeddings", false),
            attention_bias: config.flag("attention_bias", false),
            mlp_bias: config.flag("mlp_bias", false),
        })
    }
}

/// Base and scaling of the rotary embedding. Older configs have `rope_theta` at the top and the scaling in `rope_scaling`; newer ones have
/// both in `rope_parameters`.
fn rope(config: &Config) -> Result<(f64, Scaling)> {
    let nested = ["rope_parameters", "rope_scaling"].map(|name| &config.json[name]);
    let theta = nested.iter().find_map(|parameters| parameters["rope_theta"].as_f64()).or(config.json["rope_theta"].as_f64());
    let theta = theta.unwrap_or(10_000.0);
    let Some(parameters) = nested.into_iter().find(|parameters| parameters.is_object()) else {
        return Ok((theta, Scaling::None));
    };
    let number = |name: &str| parameters[name].as_f64().ok_or_else(|| Error::Config(format!("its rotary scaling has no `{name}`")));
    let kind = parameters["rope_type"].as_str().or(parameters["type"].as_str()).unwrap_or("default");
    let scaling = match kind {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: number("factor")? },
        "llama3" => Scaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_context: number("original_max_position_embeddings")?,
        },
        "factors" => {
            let factors = parameters["factors"].as_array().map(|factors| factors.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
            Scaling::Factors(factors.flatten().ok_or_else(|| Error::Config("its rotary scaling has no `factors`".into()))?)
        }
        other => return Err(config.refuse("rope_type", other, "`default`, `linear` and `llama3`")),
    };
    Ok((theta, scaling))
}

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
    /// As [`LlamaConfig::new`].
    pub fn new(config: &Config) -> Result<Self> {
        let activation = config.text("activation_function", "gelu_new");
        if !matches!(activation.as_str(), "gelu_new" | "gelu_pytorch_tanh") {
            return Err(config.refuse("activation_function", &activation, "`gelu_new`"));
        }
        for (name, expected) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false), ("add_cross_attention", false)] {
            let found = config.flag(name, expected);
            if found != expected {
                return Err(config.refuse(name, &found.to_string(), &format!("`{expected}`")));
            }
        }
        Ok(Gpt2Config {
            sizes: config.sizes()?,
            layer_norm_epsilon: config.number("layer_norm_epsilon", 1e-5),
            tie_word_embeddings: config.flag("tie_word_embeddings", true),
        })
    }
}
