//! What a `config.json` would say, from the metadata of a GGUF file: every key of the architecture is honoured, harmless or refused by name.

use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::{Map, Value as Json, json};

use super::gguf_header::whole;
use crate::config::Config;
use crate::{Error, Result};

/// Keys of `llama` that are read.
const LLAMA: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "vocab_size",
];

/// Keys of `gpt2` that are read.
const GPT2: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.layer_norm_epsilon",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
];

/// Keys that say nothing of the forward pass: the order of rows is that of `general.architecture`.
const HARMLESS: &[&str] = &["tensor_data_layout"];

/// Keys that change nothing if they have this value.
const NEUTRAL: &[(&str, f64)] = &[
    ("attention.causal", 1.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.scale", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("embedding_scale", 0.0),
    ("expert_count", 0.0),
    ("expert_shared_count", 0.0),
    ("expert_used_count", 0.0),
    ("final_logit_softcapping", 0.0),
    ("logit_scale", 0.0),
    ("residual_scale", 0.0),
    ("rope.partial_rotary_factor", 1.0),
    ("use_parallel_residual", 0.0),
];

/// The metadata of an architecture.
struct Metadata<'a> {
    content: &'a Content,
    architecture: &'a str,
    ignored: &'a [String],
}

/// What a `config.json` would say. `factors` are those of the rotary frequencies, if the file has them.
pub fn config(path: &Path, content: &Content, architecture: &str, ignored: &[String], factors: Option<Vec<f32>>) -> Result<Config> {
    let metadata = Metadata { content, architecture, ignored };
    let known = match architecture {
        "llama" => LLAMA,
        "gpt2" => GPT2,
        other => return Err(Error::OtherArchitecture { expected: "llama or gpt2", found: other.to_string() }),
    };
    metadata.check_kind(path)?;
    metadata.check_keys(known)?;
    let hidden = metadata.size("embedding_length")?;
    let heads = metadata.size("attention.head_count")?;
    let kv_heads = metadata.size("attention.head_count_kv")?;
    let context = metadata.size("context_length")?;
    let vocab = content.tensor_infos.get("token_embd.weight").and_then(|info| info.shape.dims().first().copied());
    if let (Some(said), Some(found)) = (metadata.size("vocab_size")?, vocab)
        && said != found as u64
    {
        return Err(metadata.refused("vocab_size", said, &format!("the {found} rows of `token_embd.weight`")));
    }
    let mut config = Map::new();
    let mut set = |key: &str, value: Json| drop(config.insert(key.to_string(), value));
    set("model_type", json!(architecture));
    set("vocab_size", json!(vocab));
    set("eos_token_id", json!(metadata.end_tokens()));
    set("tie_word_embeddings", json!(!content.tensor_infos.contains_key("output.weight")));
    if architecture == "gpt2" {
        if let (Some(heads), Some(kv_heads)) = (heads, kv_heads)
            && heads != kv_heads
        {
            return Err(metadata.refused("attention.head_count_kv", kv_heads, &format!("the {heads} of `attention.head_count`")));
        }
        set("n_embd", json!(hidden));
        set("n_head", json!(heads));
        set("n_layer", json!(metadata.size("block_count")?));
        set("n_positions", json!(context));
        set("n_inner", json!(metadata.size("feed_forward_length")?));
        set("layer_norm_epsilon", json!(metadata.number("attention.layer_norm_epsilon")?));
        return Ok(Config::from_map(config));
    }
    let head_dim = metadata.head_dim(hidden.zip(heads).and_then(|(hidden, heads)| hidden.checked_div(heads)))?;
    // A window as long as the context hides nothing, and no window is written as none.
    let window = metadata.size("attention.sliding_window")?.filter(|&window| window != 0);
    let is_biased = |parts: &[&str]| {
        let of = |name: &str| parts.iter().any(|part| name.starts_with("blk.") && name.ends_with(&format!(".{part}.bias")));
        content.tensor_infos.keys().any(|name| of(name))
    };
    set("hidden_size", json!(hidden));
    set("intermediate_size", json!(metadata.size("feed_forward_length")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(kv_heads.or(heads)));
    set("head_dim", json!(head_dim));
    set("num_hidden_layers", json!(metadata.size("block_count")?));
    set("max_position_embeddings", json!(context));
    set("rms_norm_eps", json!(metadata.number("attention.layer_norm_rms_epsilon")?));
    set("rope_theta", json!(metadata.number("rope.freq_base")?));
    set("rope_scaling", metadata.scaling(factors)?);
    set("sliding_window", json!(window));
    set("attention_bias", json!(is_biased(&["attn_q", "attn_k", "attn_v", "attn_output"])));
    set("mlp_bias", json!(is_biased(&["ffn_gate", "ffn_up", "ffn_down"])));
    Ok(Config::from_map(config))
}

impl Metadata<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        let key = format!("{}.{key}", self.architecture);
        self.content.metadata.get(&key).filter(|_| !self.ignored.contains(&key))
    }

    fn refused(&self, key: &str, found: impl std::fmt::Display, known: &str) -> Error {
        Error::refused(&format!("{}.{key}", self.architecture), found, known)
    }

    /// Refuses what is not a whole model.
    fn check_kind(&self, path: &Path) -> Result<()> {
        let metadata = &self.content.metadata;
        match metadata.get("general.type") {
            None => {}
            Some(Value::String(kind)) if kind == "model" => {}
            Some(kind) => {
                let problem = format!("its `general.type` is {}, and what can be loaded is a whole `model`", shown(kind));
                return Err(Error::Format { path: path.to_path_buf(), format: "GGUF model", problem });
            }
        }
        match metadata.keys().find(|key| key.starts_with("adapter.")) {
            None => Ok(()),
            Some(key) => Err(Error::refused(key, "given", "a whole model, not an adapter")),
        }
    }

    fn check_keys(&self, known: &[&str]) -> Result<()> {
        let prefix = format!("{}.", self.architecture);
        let mut unknown = Vec::new();
        for (whole_key, value) in &self.content.metadata {
            let Some(key) = whole_key.strip_prefix(&prefix).filter(|_| !self.ignored.contains(whole_key)) else { continue };
            if known.contains(&key) || HARMLESS.contains(&key) {
                continue;
            }
            let is_neutral = |neutral: f64| number(value) == Some(neutral);
            match NEUTRAL.iter().find(|(name, _)| *name == key) {
                // A factor that is left out is written as zero or as one.
                Some((name, neutral)) if is_neutral(*neutral) || (name.ends_with("scale") && is_neutral(1.0) && *name != "attention.scale") => {}
                Some((_, neutral)) => return Err(self.refused(key, shown(value), &format!("`{neutral}`"))),
                None => unknown.push(whole_key.clone()),
            }
        }
        unknown.sort();
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(Error::UnknownKeys { architecture: if self.architecture == "gpt2" { "gpt2" } else { "llama" }, keys: unknown }),
        }
    }

    /// A size. Some models have one for each layer: if these are equal, it is theirs.
    fn size(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = match value {
            Value::Array(values) => match values.split_first() {
                Some((first, rest)) if rest.iter().all(|other| whole(other) == whole(first)) => whole(first),
                _ => return Err(self.refused(key, shown(value), "one number for all layers")),
            },
            value => whole(value),
        };
        size.map(Some).ok_or_else(|| self.refused(key, shown(value), "a whole number"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        // JSON has no infinities.
        let number = number(value).filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.refused(key, shown(value), "a finite number"))
    }

    /// The channels of a head, all of which are turned by the rotary embedding.
    fn head_dim(&self, default: Option<u64>) -> Result<Option<u64>> {
        let keys = ["attention.key_length", "attention.value_length", "rope.dimension_count"];
        let head_dim = self.size(keys[0])?.or(default);
        for key in keys {
            if let (Some(found), Some(head_dim)) = (self.size(key)?, head_dim)
                && found != head_dim
            {
                return Err(self.refused(key, found, &format!("the {head_dim} channels of a head")));
            }
        }
        Ok(head_dim)
    }

    /// How the rotary frequencies are stretched. llama.cpp stores the outcome of Llama 3's scaling as a tensor of factors.
    fn scaling(&self, factors: Option<Vec<f32>>) -> Result<Json> {
        if let Some(factor) = self.number("rope.scaling.attn_factor")?
            && factor != 1.0
        {
            return Err(self.refused("rope.scaling.attn_factor", factor, "`1`"));
        }
        let old = self.number("rope.scale_linear")?;
        let new = self.number("rope.scaling.factor")?;
        let kind = match self.get("rope.scaling.type") {
            None => None,
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(other) => return Err(self.refused("rope.scaling.type", shown(other), "`none` or `linear`")),
        };
        let factor = match (kind, new.or(old)) {
            // Without a type, llama.cpp takes a factor for a linear one.
            (None | Some("linear"), Some(factor)) if factor != 0.0 => Some(factor).filter(|&factor| factor != 1.0),
            (None | Some("none" | "linear"), _) => None,
            (Some(other), _) => return Err(self.refused("rope.scaling.type", other, "`none` and `linear`")),
        };
        match (factor, factors) {
            (None, None) => Ok(Json::Null),
            (Some(factor), None) => Ok(json!({ "rope_type": "linear", "factor": factor })),
            (factor, Some(factors)) => {
                let factors = factors.iter().map(|&one| f64::from(one) * factor.unwrap_or(1.0)).collect::<Vec<_>>();
                Ok(json!({ "rope_type": "factors", "factors": factors }))
            }
        }
    }

    /// The tokens that end a text, a turn or a message.
    fn end_tokens(&self) -> Vec<u64> {
        let ids = ["eos_token_id", "eot_token_id", "eom_token_id"].iter();
        let mut ids = ids.filter_map(|key| whole(self.content.metadata.get(&format!("tokenizer.ggml.{key}"))?)).collect::<Vec<_>>();
        ids.dedup();
        ids
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        value => whole(value).map(|number| number as f64),
    }
}

/// A value in a sentence.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Bool(flag) => flag.to_string(),
        value => number(value).map_or_else(|| format!("{value:?}"), |number| number.to_string()),
    }
}
