//! A vocabulary as generation sees it.

use nnsight_core::Result;

/// What generation needs to know of a vocabulary.
pub trait Vocabulary: Sync {
    /// The tokens that end a text, as the checkpoint names them.
    fn eos_token_ids(&self) -> &[u32];
    /// The text of some tokens, in which stop strings are looked for.
    ///
    /// # Errors
    /// If there is no tokenizer.
    fn decode(&self, tokens: &[u32]) -> Result<String>;
}
