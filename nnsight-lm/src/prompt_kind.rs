//! Kinds of models that are run on prompts.

use nnsight_core::trace::ModelKind;

/// A kind of models that are run on prompts.
pub trait PromptKind: ModelKind {
    /// Whether its models continue prompts token by token.
    const GENERATES: bool;
}
