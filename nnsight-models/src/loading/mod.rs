//! From a name, a folder or a file to weights in memory.

mod cache;
mod gguf;
#[cfg(feature = "hub")]
mod hub;
mod known;
mod safetensors;
mod source;
mod tokenizer;
mod weights;

pub use source::{Location, Source};
pub use weights::Weights;

pub(crate) use source::{Checkpoint, open};
