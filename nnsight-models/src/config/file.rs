//! A `config.json`, in both spellings that transformers has used.

use nnsight_lm::Sizes;
use serde_json::{Map, Value};

use super::Declared;
use super::keys::Keys;
use crate::{Error, Result};

/// The largest sizes that are taken for real: each about ten times that of the largest models there are.
const LIMITS: [(&str, usize); 8] = [
    ("hidden", 1 << 20),
    ("heads", 1 << 16),
    ("key and value heads", 1 << 16),
    ("head", 1 << 16),
    ("layers", 1 << 12),
    ("vocabulary", 1 << 24),
    ("context", 1 << 24),
    ("MLP", 1 << 22),
];

/// A `config.json`, or what a GGUF file says in its place.
#[derive(Clone, Debug)]
pub struct Config {
    json: Map<String, Value>,
    ignored: Vec<String>,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not one.
    pub fn from_json(text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(Value::Object(json)) => Ok(Config { json, ignored: Vec::new() }),
            Ok(_) => Err(Error::Config("it is not a JSON object".into())),
            Err(error) => Err(Error::Config(format!("it is not JSON: {error}"))),
        }
    }

    /// As a `config.json`.
    pub fn to_json(&self) -> String {
        format!("{:#}", Value::Object(self.json.clone()))
    }

    pub(crate) fn from_map(json: Map<String, Value>) -> Self {
        Config { json, ignored: Vec::new() }
    }

    /// The config without regard to some keys, whatever they say.
    #[must_use]
    pub fn ignoring(self, keys: impl IntoIterator<Item = String>) -> Self {
        Config { ignored: keys.into_iter().collect(), ..self }
    }

    /// Whether a key is to be left out of account.
    pub(crate) fn ignores(&self, key: &str) -> bool {
        self.ignored.iter().any(|ignored| ignored == key)
    }

    /// What a key says, unless it is absent or `null`.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null() && !self.ignores(key))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.json.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Holds every key against those that an architecture knows.
    ///
    /// # Errors
    /// [`Error::UnknownKeys`], [`Error::Config`] if a key has a value that cannot be run.
    pub(crate) fn check_keys(&self, keys: &Keys) -> Result<()> {
        keys.check(self)
    }

    /// The architecture: `llama`, `gpt2`.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not named.
    pub fn model_type(&self) -> Result<&str> {
        self.get("model_type").and_then(Value::as_str).ok_or_else(|| Error::Config("it has no `model_type`".into()))
    }

    /// The tokens that end a text (`eos_token_id`, one or a list).
    ///
    /// # Errors
    /// [`Error::Config`] if it is neither a number nor a list of numbers.
    pub fn end_tokens(&self) -> Result<Vec<u32>> {
        end_tokens(self.get("eos_token_id")).map(Option::unwrap_or_default)
    }

    /// A size that has several names, and must be there.
    pub(crate) fn size(&self, names: &[&str]) -> Result<usize> {
        self.optional(names)?.ok_or_else(|| Error::Config(format!("it has no `{}`", names.join("` or `"))))
    }

    /// A size that has several names.
    pub(crate) fn optional(&self, names: &[&str]) -> Result<Option<usize>> {
        let mut found: Option<(&str, usize)> = None;
        for name in names {
            let Some(value) = self.get(name) else { continue };
            let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
            let size = size.ok_or_else(|| Error::Config(format!("`{name}` is {value}, which is not a size")))?;
            match found {
                Some((first, other)) if other != size => {
                    return Err(Error::Config(format!("`{first}` is {other} and `{name}` is {size}; both name the same size")));
                }
                _ => found = Some((name, size)),
            }
        }
        Ok(found.map(|(_, size)| size))
    }

    /// A number within bounds.
    pub(crate) fn number(&self, name: &str, default: f64, bounds: std::ops::RangeInclusive<f64>) -> Result<f64> {
        self.get(name).map_or(Ok(default), |value| number(name, value, bounds))
    }

    /// A boolean. `null` is `false`, as transformers takes it.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.json.get(name).filter(|_| !self.ignores(name)) {
            None => Ok(default),
            Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Error::Config(format!("`{name}` is {other}, and should be `true` or `false`"))),
        }
    }

    pub(crate) fn text(&self, name: &str, default: &str) -> Result<String> {
        match self.get(name) {
            None => Ok(default.to_string()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(Error::Config(format!("`{name}` is {other}, and should be a text"))),
        }
    }

    /// The sizes.
    ///
    /// # Errors
    /// [`Error::Config`] if one is missing or impossible.
    pub fn sizes(&self) -> Result<Sizes> {
        let hidden = self.size(&["hidden_size", "n_embd"])?;
        let heads = self.size(&["num_attention_heads", "n_head"])?;
        let kv_heads = self.optional(&["num_key_value_heads"])?.unwrap_or(heads);
        let layers = self.size(&["num_hidden_layers", "n_layer"])?;
        let vocab = self.size(&["vocab_size"])?;
        let context = self.size(&["max_position_embeddings", "n_positions", "n_ctx"])?;
        let mlp = self.optional(&["intermediate_size", "n_inner"])?.unwrap_or(hidden.saturating_mul(4));
        let given = self.optional(&["head_dim"])?;
        let head_dim = given.or(hidden.checked_div(heads)).unwrap_or(0);
        let all = [hidden, heads, kv_heads, head_dim, layers, vocab, context, mlp];
        let wrong = all.iter().zip(LIMITS).find(|(size, (_, limit))| !(1..=*limit).contains(*size));
        if let Some((size, (name, limit))) = wrong {
            return Err(Error::Config(format!("its sizes are impossible: {name} {size}, which can be 1 to {limit}")));
        }
        let whole = given.is_some() || hidden.is_multiple_of(heads);
        if heads % kv_heads != 0 || !head_dim.is_multiple_of(2) || !whole || heads * head_dim > LIMITS[0].1 {
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
    pub(crate) fn check(&self, declared: Declared) -> Result<()> {
        let Some(expected) = declared.sizes else { return Ok(()) };
        let found = self.sizes()?;
        for ((field, expected), (_, found)) in expected.fields().into_iter().zip(found.fields()) {
            if expected != found {
                return Err(Error::OtherCheckpoint { signature: declared.name, field, expected, found });
            }
        }
        Ok(())
    }
}

/// A number within bounds.
pub(crate) fn number(name: &str, value: &Value, bounds: std::ops::RangeInclusive<f64>) -> Result<f64> {
    let number = value.as_f64().ok_or_else(|| Error::Config(format!("`{name}` is {value}, and should be a number")))?;
    match bounds.contains(&number) {
        true => Ok(number),
        false => Err(Error::Config(format!("`{name}` is {value}, and should be from {:e} to {:e}", bounds.start(), bounds.end()))),
    }
}

/// End tokens, one or a list. Ids that no token can have never end a text, and configs hold such.
pub(crate) fn end_tokens(ids: Option<&Value>) -> Result<Option<Vec<u32>>> {
    let Some(ids) = ids.filter(|ids| !ids.is_null()) else { return Ok(None) };
    let all = ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice);
    match all.iter().find(|id| !id.is_i64() && !id.is_u64()) {
        None => Ok(Some(all.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect())),
        Some(id) => Err(Error::Config(format!("`eos_token_id` has {id}, which is not a token id"))),
    }
}
