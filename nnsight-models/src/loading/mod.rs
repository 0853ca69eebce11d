//! From a name, a folder or a file to weights in memory.

mod builtin;
mod cache;
mod checkpoint;
mod fingerprint;
mod finite;
mod gguf;
mod gguf_config;
mod gguf_header;
mod gguf_names;
mod hashes;
#[cfg(feature = "hub")]
mod http;
#[cfg(feature = "hub")]
mod hub;
mod loader;
mod notices;
mod regular;
mod safetensors;
mod shards;
mod source;
mod tokenizer;
mod weights;
#[cfg(feature = "pip")]
mod wheel;

pub use gguf_names::{ConfigKey, GgufNames, Stored};
pub use loader::{Load, Loader};
pub use source::{Location, Source};
pub use weights::Weights;

pub(crate) use checkpoint::{Checkpoint, open};
pub(crate) use fingerprint::Fingerprint;
