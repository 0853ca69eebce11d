//! What a `config.json` would say, from the metadata of a GGUF file: every key of the architecture is honoured, harmless or refused by name.

use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::{Map, Value as Json, json};

use super::gguf_header::whole;
use super::gguf_names::{ConfigKey, GgufNames};
use crate::config::Config;
use crate::{Error, Result};

/// Keys that belong to that of [`ConfigKey::HeadChannels`].
const OF_HEADS: &[&str] = &["attention.value_length", "rope.dimension_count"];

/// Keys that belong to that of [`ConfigKey::Scaling`].
const OF_SCALING: &[&str] = &[
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
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
    names: &'static GgufNames,
    ignored: &'a [String],
}

/// What a `config.json` of the `model_type` with these names would say. `factors` are those of the rotary frequencies, if the file has them.
pub fn config(
    path: &Path,
    content: &Content,
    (model_type, names): (&str, &'static GgufNames),
    ignored: &[String],
    factors: Option<Vec<f32>>,
) -> Result<Config> {
    let metadata = Metadata { content, names, ignored };
    metadata.check_kind(path)?;
    metadata.check_keys()?;
    let vocab = content.tensor_infos.get("token_embd.weight").and_then(|info| info.shape.dims().first().copied());
    if let (Some(said), Some(found)) = (metadata.size("vocab_size")?, vocab)
        && said != found as u64
    {
        return Err(metadata.refused("vocab_size", said, &format!("the {found} rows of `token_embd.weight`")));
    }
    let mut config = Map::new();
    let mut set = |key: &str, value: Json| drop(config.insert(key.to_string(), value));
    set("model_type", json!(model_type));
    set("vocab_size", json!(vocab));
    set("eos_token_id", json!(metadata.end_tokens()));
    set("tie_word_embeddings", json!(!content.tensor_infos.contains_key("output.weight")));
    for &(key, meaning) in names.keys {
        match meaning {
            ConfigKey::Size(name) => set(name, json!(metadata.size(key)?)),
            ConfigKey::Number(name) => set(name, json!(metadata.number(key)?)),
            // A window as long as the context hides nothing, and no window is written as none.
            ConfigKey::Window(name) => set(name, json!(metadata.size(key)?.filter(|&window| window != 0))),
            ConfigKey::HeadChannels(name) => set(name, json!(metadata.head_dim(key)?)),
            ConfigKey::Scaling(name) => set(name, metadata.scaling(factors.as_deref())?),
            ConfigKey::SameAs(other) => {
                if let (Some(found), Some(expected)) = (metadata.size(key)?, metadata.size(other)?)
                    && found != expected
                {
                    return Err(metadata.refused(key, found, &format!("the {expected} of `{other}`")));
                }
            }
        }
    }
    for (name, modules) in names.biases {
        let is_one = |tensor: &str| {
            let module = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.1.strip_suffix(".bias"));
            module.is_some_and(|module| modules.contains(&module))
        };
        set(name, json!(content.tensor_infos.keys().any(|tensor| is_one(tensor))));
    }
    (names.unwritten)(&mut config);
    Ok(Config::from_map(config))
}

impl Metadata<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        let key = format!("{}.{key}", self.names.architecture);
        self.content.metadata.get(&key).filter(|_| !self.ignored.contains(&key))
    }

    fn refused(&self, key: &str, found: impl std::fmt::Display, known: &str) -> Error {
        Error::refused(&format!("{}.{key}", self.names.architecture), found, known)
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

    /// Whether a key is one that is read.
    fn is_known(&self, key: &str) -> bool {
        let has = |wanted: fn(ConfigKey) -> bool| self.names.keys.iter().any(|(_, meaning)| wanted(*meaning));
        key == "vocab_size"
            || self.names.keys.iter().any(|(known, _)| *known == key)
            || OF_HEADS.contains(&key) && has(|key| matches!(key, ConfigKey::HeadChannels(_)))
            || OF_SCALING.contains(&key) && has(|key| matches!(key, ConfigKey::Scaling(_)))
    }

    fn check_keys(&self) -> Result<()> {
        let prefix = format!("{}.", self.names.architecture);
        let mut unknown = Vec::new();
        for (whole_key, value) in &self.content.metadata {
            let Some(key) = whole_key.strip_prefix(&prefix).filter(|_| !self.ignored.contains(whole_key)) else { continue };
            if self.is_known(key) || HARMLESS.contains(&key) {
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
            false => Err(Error::UnknownKeys { architecture: self.names.architecture, keys: unknown }),
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
    fn head_dim(&self, key: &str) -> Result<Option<u64>> {
        let default = self.size("embedding_length")?.zip(self.size("attention.head_count")?).and_then(|(hidden, heads)| hidden.checked_div(heads));
        let head_dim = self.size(key)?.or(default);
        for key in OF_HEADS {
            if let (Some(found), Some(head_dim)) = (self.size(key)?, head_dim)
                && found != head_dim
            {
                return Err(self.refused(key, found, &format!("the {head_dim} channels of a head")));
            }
        }
        Ok(head_dim)
    }

    /// How the rotary frequencies are stretched. llama.cpp stores the outcome of Llama 3's scaling as a tensor of factors.
    fn scaling(&self, factors: Option<&[f32]>) -> Result<Json> {
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
