//! How a prompt is continued.

use nnsight_core::graph::{KindTag, Output, Rollout};
use nnsight_core::trace::Settings;
use nnsight_core::types::{Batch, DimName};
use nnsight_core::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};

use crate::Seq;

/// How tokens are chosen after a prompt, one per step, and when that ends.
///
/// Without a temperature the most likely token is taken (greedy).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generation {
    /// How many tokens at most. The first comes from the prompt's own pass, step 0.
    pub max_new_tokens: usize,
    /// Before this many tokens, those that end a text are not chosen.
    pub min_new_tokens: usize,
    /// What logits are divided by before a token is drawn; 0 takes the most likely.
    #[serde(deserialize_with = "number")]
    pub temperature: f64,
    /// Draw among this many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Draw among the most likely tokens that together have this probability (Holtzman et al. 2020).
    pub top_p: Option<f64>,
    /// What the logits of tokens that the text already has are divided by, or multiplied where negative (Keskar et al. 2019).
    #[serde(deserialize_with = "number")]
    pub repetition_penalty: f64,
    /// The same seed draws the same tokens.
    pub seed: u64,
    /// Tokens that end a prompt's text, beside those that the checkpoint names.
    pub stop_tokens: Vec<u32>,
    /// Texts that end a prompt's text.
    pub stop_strings: Vec<String>,
}

impl Default for Generation {
    /// Greedy, at most 20 tokens.
    fn default() -> Self {
        Generation {
            max_new_tokens: 20,
            min_new_tokens: 0,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            repetition_penalty: 1.0,
            seed: 0,
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
        }
    }
}

macro_rules! settings {
    ($($(#[$meta:meta])* $name:ident: $ty:ty = $value:ident => $set:expr;)+) => {
        impl Generation {$(
            $(#[$meta])*
            pub fn $name(mut self, $value: $ty) -> Self {
                self.$name = $set;
                self
            }
        )+}
    };
}
settings! {
    /// How many tokens at most.
    max_new_tokens: usize = tokens => tokens;
    /// Before this many tokens, those that end a text are not chosen.
    min_new_tokens: usize = tokens => tokens;
    /// What logits are divided by before a token is drawn; 0 takes the most likely.
    temperature: f64 = temperature => temperature;
    /// Draw among this many of the most likely tokens.
    top_k: usize = k => Some(k);
    /// Draw among the most likely tokens that together have this probability.
    top_p: f64 = p => Some(p);
    /// What the logits of tokens that the text already has are divided by.
    repetition_penalty: f64 = penalty => penalty;
    /// The same seed draws the same tokens.
    seed: u64 = seed => seed;
    /// Tokens that end a prompt's text.
    stop_tokens: impl IntoIterator<Item = u32> = tokens => tokens.into_iter().collect();
    /// Texts that end a prompt's text.
    stop_strings: impl IntoIterator<Item: Into<String>> = texts => texts.into_iter().map(Into::into).collect();
}

impl Generation {
    /// What is wrong with the settings, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let at_least = |name: &str, value: f64, least: f64| (!value.is_finite() || value < least).then(|| format!("`{name}` is {value}"));
        at_least("temperature", self.temperature, 0.0)
            .or_else(|| at_least("repetition_penalty", self.repetition_penalty, f64::MIN_POSITIVE))
            .or_else(|| at_least("top_p", self.top_p.unwrap_or(1.0), f64::MIN_POSITIVE))
            .or_else(|| at_least("top_k", self.top_k.unwrap_or(1) as f64, 1.0))
            .or_else(|| (self.max_new_tokens == 0).then(|| "`max_new_tokens` is 0".to_string()))
            .or_else(|| (self.min_new_tokens > self.max_new_tokens).then(|| "`min_new_tokens` is above `max_new_tokens`".to_string()))
    }
}

/// A number; JSON has none that are not finite, and writes `null`.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What a rollout of this kind is called.
const KIND: &str = "generation";

impl Settings for Generation {
    fn rollout(&self) -> Rollout {
        let axes = vec![Batch::axis(None), Seq::axis(None)];
        Rollout {
            kind: KIND.into(),
            steps: self.max_new_tokens,
            output: Output { kind: KindTag::Int, axes },
            settings: serde_json::to_value(self).unwrap_or_default(),
        }
    }
}

impl Generation {
    /// Reads a rollout as a generation.
    ///
    /// # Errors
    /// [`Error::Rollout`] if it is something else, or a setting means nothing.
    pub fn of(rollout: &Rollout) -> Result<Self> {
        let refused = |problem: String| Error::Rollout { problem, source_line: None };
        if rollout.kind != KIND {
            return Err(refused(format!("a language model knows `{KIND}`, not `{}`", nnsight_core::graph::printable(&rollout.kind))));
        }
        let found = serde_json::from_value::<Generation>(rollout.settings.clone()).map_err(|error| refused(error.to_string()))?;
        let found = Generation { max_new_tokens: rollout.steps, ..found };
        match found.problem() {
            Some(problem) => Err(refused(problem)),
            None if rollout.output != found.rollout().output => Err(refused("token ids come out of it, in rows of positions".into())),
            None => Ok(found),
        }
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} more tokens", self.max_new_tokens)?;
        match self.temperature {
            0.0 => Ok(()),
            temperature => write!(f, " at temperature {temperature}"),
        }
    }
}
