//! The architectures, each in a file of its own.

pub mod bert;
pub mod gemma2;
pub mod gemma3;
pub mod gpt2;
pub mod gpt_neox;
pub mod llama;
pub mod mistral;
pub mod mixtral;
pub mod olmo2;
pub mod qwen2;
pub mod qwen3;
pub mod qwen3_moe;

/// What models are loaded as.
pub mod handles {
    pub use super::bert::Bert;
    pub use super::gemma2::Gemma2;
    pub use super::gemma3::Gemma3;
    pub use super::gpt_neox::GptNeoX;
    pub use super::gpt2::Gpt2;
    pub use super::llama::Llama;
    pub use super::mistral::Mistral;
    pub use super::mixtral::Mixtral;
    pub use super::olmo2::Olmo2;
    pub use super::qwen2::Qwen2;
    pub use super::qwen3::Qwen3;
    pub use super::qwen3_moe::Qwen3Moe;
}

pub use bert::BertConfig;
pub use gemma2::Gemma2Config;
pub use gemma3::Gemma3Config;
pub use gpt_neox::GptNeoXConfig;
pub use gpt2::Gpt2Config;
pub use handles::*;
pub use llama::LlamaConfig;
pub use mistral::MistralConfig;
pub use mixtral::MixtralConfig;
pub use olmo2::Olmo2Config;
pub use qwen2::Qwen2Config;
pub use qwen3::Qwen3Config;
pub use qwen3_moe::Qwen3MoeConfig;
