//! Checkpoint configurations: what they say, key by key, and what an architecture makes of it.

mod declared;
mod file;
mod gpt2;
mod keys;
mod llama;
mod rope;

pub(crate) use declared::Declared;
pub use file::Config;
pub(crate) use file::end_tokens;
pub use gpt2::Gpt2Config;
pub use llama::LlamaConfig;
