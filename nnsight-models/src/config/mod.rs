//! Checkpoint configurations: what they say, key by key.

mod attention;
mod declared;
mod file;
mod keys;
mod rope;
mod scaling;

pub(crate) use attention::{full_attention, windowed_layers};
pub(crate) use declared::Declared;
pub use file::Config;
pub(crate) use file::end_tokens;
pub(crate) use keys::{Fixed, Keys};
pub(crate) use rope::{partial_rope, rope, ropes};
pub use scaling::Scaling;
