//! The keys of a config: which are honoured, which say nothing of the forward pass, and which are refused unless they are neutral.
//!
//! What is not known is refused by name: a key may change what the model computes, and a loader that passes over it computes something else.

use serde_json::Value;

use super::file::Config;
use crate::{Error, Result};

/// The keys that an architecture knows.
pub(crate) struct Keys {
    pub architecture: &'static str,
    /// The classes of transformers whose forward pass it is.
    pub classes: &'static [&'static str],
    /// Read, and checked where they are read.
    pub honoured: &'static [&'static str],
    /// Without effect on the forward pass.
    pub harmless: &'static [&'static str],
    /// With effect, unless they have one of some values.
    pub fixed: &'static [Fixed],
}

/// A key that must have one of some values, written as JSON.
pub(crate) struct Fixed {
    pub key: &'static str,
    pub values: &'static [&'static str],
}

/// Keys that transformers knows for every model and that say nothing of the forward pass: training, generation, names of tokens, bookkeeping.
const HARMLESS: &[&str] = &[
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "attn_pdrop",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token",
    "bos_token_id",
    // In how many parts MLPs are computed: the results are the same.
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    // Of attention across two stacks, of which there is one: causal either way.
    "is_decoder",
    "label2id",
    "mask_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "mlp_dropout",
    "model_max_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Keys of any model that change the forward pass, with the values by which they do not.
const FIXED: &[Fixed] = &[
    Fixed { key: "add_cross_attention", values: &["false", "null"] },
    Fixed { key: "attention_multiplier", values: &["null"] },
    Fixed { key: "cross_attention_hidden_size", values: &["null"] },
    Fixed { key: "embedding_multiplier", values: &["1", "null"] },
    Fixed { key: "is_causal", values: &["true", "null"] },
    Fixed { key: "is_encoder_decoder", values: &["false", "null"] },
    Fixed { key: "logit_scale", values: &["1", "null"] },
    Fixed { key: "logits_scaling", values: &["1", "null"] },
    Fixed { key: "partial_rotary_factor", values: &["1", "null"] },
    Fixed { key: "pruned_heads", values: &["{}", "null"] },
    Fixed { key: "residual_multiplier", values: &["1", "null"] },
    Fixed { key: "rotary_pct", values: &["1", "null"] },
    Fixed { key: "tie_encoder_decoder", values: &["false", "null"] },
    Fixed { key: "use_bidirectional_attention", values: &["false", "null"] },
];

impl Keys {
    /// Holds every key of a config against these.
    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let mut unknown = Vec::new();
        for (key, value) in config.keys() {
            // A leading underscore is Python's for what is private to the library that wrote the file.
            if config.ignores(key) || key.starts_with('_') || [self.honoured, self.harmless, HARMLESS].iter().any(|keys| keys.contains(&key)) {
                continue;
            }
            match key {
                "architectures" => self.check_class(value)?,
                "auto_map" => own_code(value)?,
                "quantization_config" => quantized(value)?,
                _ => match self.fixed.iter().chain(FIXED).find(|fixed| fixed.key == key) {
                    Some(fixed) => fixed.check(value)?,
                    None if value.is_null() => {}
                    None => unknown.push(key.to_string()),
                },
            }
        }
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(Error::UnknownKeys { architecture: self.architecture, keys: unknown }),
        }
    }

    /// Other classes compute something else from the same tensors, such as attention in both directions.
    fn check_class(&self, value: &Value) -> Result<()> {
        let names = value.as_array().map_or(&[][..], Vec::as_slice);
        match names.iter().find(|name| !self.classes.iter().any(|class| name.as_str() == Some(class))) {
            None => Ok(()),
            Some(name) => {
                Err(Error::refused("architectures", name.as_str().unwrap_or("not a list of names"), &format!("`{}`", self.classes.join("`, `"))))
            }
        }
    }
}

impl Fixed {
    fn check(&self, value: &Value) -> Result<()> {
        let found = value.to_string();
        let is = |expected: &&str| found == **expected || value.as_f64().is_some_and(|number| expected.parse() == Ok(number));
        match self.values.iter().any(is) {
            true => Ok(()),
            false => Err(Error::refused(self.key, value, &format!("`{}`", self.values.join("` or `")))),
        }
    }
}

/// Refuses a model that comes with code of its own. A tokenizer or a config class of its own does not change the forward pass.
fn own_code(value: &Value) -> Result<()> {
    let models = value.as_object().into_iter().flatten().filter(|(class, _)| class.starts_with("AutoModel"));
    match models.map(|(_, code)| code).next() {
        None => Ok(()),
        Some(code) => Err(Error::refused("auto_map", code, "no code that comes with the checkpoint")),
    }
}

fn quantized(value: &Value) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    let method = value.get("quant_method").and_then(Value::as_str).unwrap_or("a method that it does not name");
    Err(Error::Config(format!(
        "`quantization_config` says that the weights are quantised by `{method}`, which cannot be read; load the checkpoint from which it was made, \
         or a GGUF file"
    )))
}
