//! What tells one model from another.

use candle_core::DType;

/// What tells one model from another: equal for two models that compute the same from the same graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// A number made from everything that the results depend on: sizes, weights, the form in which those are held, edits.
    pub hash: u64,
    /// The type in which it computes.
    pub dtype: DType,
}

impl Fingerprint {
    /// Of a model of which nothing is known but the type in which it computes; `with` adds the rest.
    pub fn new(dtype: DType) -> Self {
        Fingerprint { hash: START, dtype }
    }

    /// That of the model with something added on which its results depend.
    #[must_use]
    pub fn with(self, added: &[u8]) -> Self {
        Fingerprint { hash: fold(self.hash, added), ..self }
    }
}

/// FNV-1a, going on from `hash`.
pub(super) fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Where FNV-1a begins.
pub(super) const START: u64 = 0xcbf2_9ce4_8422_2325;
