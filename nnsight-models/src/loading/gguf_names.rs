//! What llama.cpp calls an architecture and its parts: the table that an architecture has for its GGUF files.

use serde_json::{Map, Value};

/// What llama.cpp calls an architecture and its parts.
///
/// In the names of modules `*` is the number of a layer.
#[derive(Debug)]
pub struct GgufNames {
    /// The value of `general.architecture`, with which the keys of its metadata begin.
    pub architecture: &'static str,
    /// The modules that have tensors: what transformers calls them, what llama.cpp does, and what it has done to their weights.
    pub modules: &'static [(&'static str, &'static str, Stored)],
    /// The keys of its metadata, without the architecture, and what a `config.json` has in their place.
    pub keys: &'static [(&'static str, ConfigKey)],
    /// Keys of a `config.json` that say whether modules have biases, and these modules. A bias that is missing beside others is zero.
    pub biases: &'static [(&'static str, &'static [&'static str])],
    /// Adds to the config what llama.cpp knows of the architecture and files do not say.
    pub unwritten: fn(&mut Map<String, Value>),
}

/// In which form llama.cpp stores the weights of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As transformers does.
    Same,
    /// As `(out, in)`, where transformers has `(in, out)`.
    Transposed,
    /// The rows of every query head in pairs that are turned against each other, where transformers has two halves.
    QueryPairs,
    /// [`Stored::QueryPairs`], of the heads of keys.
    KeyPairs,
    /// With one added to every entry.
    PlusOne,
    /// The rows of all queries, then of all keys, then of all values, where transformers has those of one head after the other.
    QueriesFirst,
}

/// What a key of a GGUF file's metadata says, and the key of a `config.json` that says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKey {
    /// A size; a list if it has the same entry for each layer.
    Size(&'static str),
    /// A number.
    Number(&'static str),
    /// The size of a window of attention, of which 0 is none.
    Window(&'static str),
    /// A size that has to be that of another key of the metadata.
    SameAs(&'static str),
    /// The channels of a head. `attention.value_length` and `rope.dimension_count`, if they are there, have to say the same.
    HeadChannels(&'static str),
    /// The factor of the rotary embedding's scaling, of which the other keys are `rope.scale_linear` and those that begin with `rope.scaling.`.
    Scaling(&'static str),
}

impl GgufNames {
    /// The module that transformers calls so: llama.cpp's name, and in which form it stores the weights.
    pub(super) fn module(&self, name: &str) -> Option<(String, Stored)> {
        self.modules.iter().find_map(|(pattern, stored, form)| {
            let layer = matched(pattern, name)?;
            Some((stored.replace('*', layer), *form))
        })
    }

    /// Whether a module, by llama.cpp's name for it, is one of those that may have a bias.
    pub(super) fn may_have_bias(&self, module: &str) -> bool {
        let own = module.rsplit('.').next().unwrap_or(module);
        self.biases.iter().any(|(_, modules)| modules.contains(&own))
    }
}

/// What is in place of the `*` of a pattern: the number of a layer, or nothing in a pattern without.
fn matched<'a>(pattern: &str, name: &'a str) -> Option<&'a str> {
    let Some((before, after)) = pattern.split_once('*') else { return (pattern == name).then_some("") };
    let layer = name.strip_prefix(before)?.strip_suffix(after)?;
    (!layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit())).then_some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_the_number_of_a_layer() {
        assert_eq!(matched("model.layers.*.mlp", "model.layers.12.mlp"), Some("12"));
        assert_eq!(matched("model.norm", "model.norm"), Some(""));
        for name in ["model.layers..mlp", "model.layers.x.mlp", "model.layers.1.mlp.up", "layers.1.mlp", "model.layers.1.2.mlp"] {
            assert_eq!(matched("model.layers.*.mlp", name), None, "{name}");
        }
    }
}
