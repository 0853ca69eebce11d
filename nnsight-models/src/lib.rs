//! Language models with every activation accessible, and the loading of their checkpoints.

#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr)]

// Generated code names what it uses by the facade's name.
extern crate self as nnsight;

pub mod architectures;
mod attribution;
mod causal;
mod config;
mod decoder;
mod error;
mod hooked;
mod known;
mod language_model;
pub mod layers;
mod loaded;
mod loading;
mod meta;
mod network;
mod prompts;
mod report;
pub mod signatures;
mod token_ids;
mod tokenizer;
mod transformer;
mod transformer_lens;
mod tree;

#[doc(no_inline)]
pub use architectures::*;
pub use attribution::integrated_gradients;
pub use causal::{CausalAttention, CausalAttentionNames, CausalBlock, CausalBlockNames, CausalLm, CausalLmNames, Neurons};
pub use config::Config;
pub use decoder::Decoder;
pub use error::{Error, NoTokenizer, Result};
pub use hooked::{HookedAttention, HookedBlock, HookedTransformer};
pub use known::ARCHITECTURES;
pub use language_model::LanguageModel;
pub use layers::WeightFormat;
pub use loaded::Loaded;
pub use loading::{ConfigKey, GgufNames, Load, Loader, Location, Source, Stored, Weights};
pub use meta::Meta;
pub use network::Network;
#[doc(no_inline)]
pub use signatures::*;
pub use token_ids::{LogitsShape, TokenIds, TokenRows};
pub use tokenizer::Tokenizer;
pub use transformer::Transformer;
pub use tree::{Tree, TreeModule};

/// What generated code calls.
#[doc(hidden)]
pub mod __private {
    pub use nnsight_core::__private::*;
    pub use nnsight_lm::Experts;

    pub use crate::Result as LoadResult;
    pub use crate::causal::{CausalAttention, CausalAttentionNames, CausalBlock, CausalBlockNames, CausalLm, CausalLmNames, Neurons};
    pub use crate::loading::{Load, Loader};
}
