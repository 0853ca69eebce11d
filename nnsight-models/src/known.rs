//! The names of all architectures.

/// The names of all architectures, as a `config.json` has them: what can be loaded.
pub const ARCHITECTURES: &[&str] =
    &["llama", "gpt2", "gpt_neox", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "qwen3_moe", "mixtral", "bert"];

/// All of them in a sentence.
pub(crate) fn listed() -> String {
    match ARCHITECTURES {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [first @ .., last] => format!("`{}` and `{last}`", first.join("`, `")),
    }
}
