//! The architectures, each in a file of its own.

pub mod gpt2;
pub mod llama;

/// What models are loaded as.
pub mod handles {
    pub use super::gpt2::Gpt2;
    pub use super::llama::Llama;
}

pub use gpt2::Gpt2Config;
pub use handles::*;
pub use llama::LlamaConfig;
