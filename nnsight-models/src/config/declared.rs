//! What a signature says of a checkpoint.

use nnsight_core::types::Signature;
use nnsight_lm::Sizes;

/// What a signature says of a checkpoint.
#[derive(Clone, Copy)]
pub(crate) struct Declared {
    pub name: &'static str,
    pub sizes: Option<Sizes>,
}

impl Declared {
    pub fn of<C: Signature>() -> Self {
        Declared { name: C::NAME, sizes: C::SIZES.and_then(Sizes::of) }
    }
}
