//! What is known to fail, and is not counted until it is mended: each with the words that candle panics with.

/// Part of a panic's message, and what it comes from.
pub const KNOWN: &[(&str, &str)] = &[
    ("no unary function for", "functions of whole numbers: `Unary` on a value of kind `Int`"),
    ("not yet implemented", "functions of whole numbers that candle does not have"),
    ("attempt to divide by zero", "`Reduce`, `Softmax` and `CumSum` of a value without entries"),
    ("attempt to subtract with overflow", "the variance of a value without entries"),
];

/// Whether a panic is one of those.
pub fn is_known(message: &str) -> bool {
    KNOWN.iter().any(|(words, _)| message.contains(words))
}
