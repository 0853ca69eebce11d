//! What can be wrong with a prompt.

use nnsight_core::InputProblem;

/// What can be wrong with a prompt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptProblem {
    /// It is not one.
    #[error("input {prompt} of invoke {invoke} is not a prompt: it has {found}")]
    NotAPrompt {
        /// Which invoke.
        invoke: usize,
        /// Which of its inputs.
        prompt: usize,
        /// The names of its parts.
        found: String,
    },
    /// It has no tokens.
    #[error("prompt {prompt} of invoke {invoke} is empty")]
    Empty {
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
    },
    /// It is longer than the model can read.
    #[error("prompt {prompt} of invoke {invoke} has {found} tokens; `{model}` reads at most {limit}")]
    TooLong {
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
        /// Its tokens, and those that are to be generated.
        found: usize,
        /// The model's context.
        limit: usize,
        /// The model.
        model: String,
    },
    /// Its mask is not as long as it is.
    #[error("prompt {prompt} of invoke {invoke} has {tokens} tokens and a mask for {mask}")]
    Mask {
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
        /// The number of tokens.
        tokens: usize,
        /// The number of entries of the mask.
        mask: usize,
    },
    /// A token id does not exist.
    #[error("token {token} of prompt {prompt}, invoke {invoke}, is not in the vocabulary of `{model}` (0 to {})", .vocab.saturating_sub(1))]
    UnknownToken {
        /// The id.
        token: u32,
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
        /// The size of the vocabulary.
        vocab: usize,
        /// The model.
        model: String,
    },
    /// Its embeddings hold NaN or an infinity.
    #[error("the embeddings of prompt {prompt} of invoke {invoke} hold {number}")]
    NotFinite {
        /// The number that they come to.
        number: f64,
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
    },
}

impl InputProblem for PromptProblem {
    fn help(&self) -> Option<String> {
        let help = match self {
            PromptProblem::NotAPrompt { .. } => "a prompt has a `text`, `tokens`, `tokens` and `seen`, `embeddings`, or a `chat`",
            PromptProblem::Empty { .. } => "a model needs at least one token; to begin from nothing, give the token that begins a text",
            PromptProblem::TooLong { .. } => "shorten the prompt, or generate fewer tokens",
            PromptProblem::Mask { .. } => "give one `bool` for each token",
            PromptProblem::UnknownToken { .. } => "take ids from this model's own tokenizer, `model.tokenizer().encode(…)`",
            PromptProblem::NotFinite { .. } => "every entry must be a finite number",
        };
        Some(help.into())
    }
}
