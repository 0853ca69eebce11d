//! What nnsight knows of language models: the names of their axes, prompts, batches of tokens, KV caches, and how a prompt is continued.
//!
//! The core knows none of it. It runs graphs on modules; this crate says what a language model is given and what comes of it.

#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod chat;
mod continuation;
mod dims;
mod encoder;
mod generation;
mod heads;
mod kv_cache;
mod language;
mod problem;
mod prompt;
mod prompt_kind;
mod sampler;
mod sizes;
mod text;
mod token;
mod token_batch;
mod token_inputs;
mod vocabulary;

pub use chat::{Chat, ChatEnd, Message};
pub use dims::{Chosen, Context, ExpertMlp, Experts, HeadDim, Heads, HeadsHidden, Hidden, Key, KvHeads, KvHidden, Mlp, Qkv, Query, Seq, Vocab};
pub use encoder::{Encoder, NoGeneration};
pub use generation::Generation;
pub use heads::{ByHead, HasHeads};
pub use kv_cache::KvCache;
#[allow(deprecated)]
pub use kv_cache::Past;
pub use language::{Language, LanguageSteps};
pub use problem::PromptProblem;
pub use prompt::{IntoPrompts, Prompt};
pub use prompt_kind::PromptKind;
pub use sizes::{ExpertSizes, Sizes};
pub use token::Token;
pub use token_batch::TokenBatch;
pub use token_inputs::TokenInputs;
pub use vocabulary::Vocabulary;
