//! The operations as plain candle expressions: on every device, in every type, and with a gradient.
//!
//! A kernel is tested against them, and they are computed if there is no kernel. None of them converts types: that is done by the
//! functions of the crate's root.

mod activation;
mod attention;
mod elementwise;
mod linear;
mod norm;
mod patch;
mod rotary;

pub use activation::{silu_mul, softmax};
pub use attention::{attend, attention, scores};
pub use elementwise::{binary, unary};
pub use linear::matmul;
pub use norm::{layer_norm, rms_norm};
pub use patch::patch;
pub use rotary::rotate;
