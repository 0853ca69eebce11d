//! Text to token ids and back, equal to Hugging Face's.

mod byte_level;
mod chat;
mod gguf;
mod json;
mod sentence_piece;
mod text;

pub use text::Tokenizer;

pub(crate) use chat::ChatTemplates;
pub(crate) use gguf::GgufTokenizer;
