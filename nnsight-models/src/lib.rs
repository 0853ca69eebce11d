//! GPT-2 and Llama with every activation accessible, and the loading of their checkpoints.

#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr)]

// Generated code names the core by the facade's name.
extern crate nnsight_core as nnsight;

mod attribution;
mod causal;
mod config;
mod error;
pub mod gpt2;
mod hooked;
mod language_model;
pub mod layers;
mod layout;
pub mod llama;
mod loaded;
mod loading;
mod meta;
mod network;
mod prompts;
mod report;
mod signatures;
mod token_ids;
mod tokenizer;
mod transformer_lens;
mod tree;

pub use attribution::integrated_gradients;
pub use causal::{CausalAttention, CausalBlock, CausalLm};
pub use config::{Config, Gpt2Config, LlamaConfig};
pub use error::{Error, NoTokenizer, Result};
pub use gpt2::Gpt2;
pub use hooked::{HookedAttention, HookedBlock, HookedTransformer};
pub use language_model::LanguageModel;
pub use layers::WeightFormat;
pub use layout::Layout;
pub use llama::Llama;
pub use loaded::Loaded;
pub use loading::{Location, Source, Weights};
pub use meta::Meta;
pub use network::Network;
pub use signatures::{
    Gpt2Large, Gpt2Medium, Gpt2Small, Gpt2Xl, Llama3_1_8B, Llama3_1_70B, Llama3_1_405B, Llama3_2_1B, Llama3_2_3B, SmolLm2_1_7B, SmolLm2_135M,
    SmolLm2_360M, TinyLlama_1_1B,
};
pub use token_ids::{LogitsShape, TokenIds, TokenRows};
pub use tokenizer::Tokenizer;
pub use tree::{Tree, TreeModule};
