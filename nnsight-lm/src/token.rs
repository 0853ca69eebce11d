//! Tokens as they are chosen.

use nnsight_core::observer::{Emitted, EmittedValue};

/// A token that was just chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of which invoke.
    pub invoke: usize,
    /// Of which of its prompts.
    pub prompt: usize,
    /// At which step.
    pub step: usize,
    /// Its id.
    pub id: u32,
}

impl From<Emitted> for Token {
    fn from(Emitted { invoke, input, step, value }: Emitted) -> Self {
        let id = match value {
            EmittedValue::Id(id) => id,
            // Of a language model there are only ids.
            _ => u32::MAX,
        };
        Token { invoke, prompt: input, step, id }
    }
}
