//! Language models as a kind of models.

use nnsight_core::graph::Input;
use nnsight_core::trace::{Generating, Interface, ModelKind, Reads, Step, Value};
use nnsight_core::types::{Batch, Int};

use crate::{Generation, IntoPrompts, PromptKind, Seq, Token};

/// Language models: they are run on prompts, and their runs go on token by token.
#[derive(Clone, Copy, Debug)]
pub enum Language {}

impl ModelKind for Language {
    type Settings = Generation;
    type Emitted = Token;
}

impl PromptKind for Language {
    const GENERATES: bool = true;
}

impl<I: IntoPrompts> Reads<I> for Language {
    fn inputs(of: I) -> Vec<Input> {
        of.into_prompts().into_iter().map(Input::from).collect()
    }
}

/// The steps of a language model's generation by the names of the field: what the block of `generate!` has beside `step` and `steps`.
pub trait LanguageSteps<'t, M: Interface> {
    /// The prompts' own pass, at all of their positions: step 0.
    fn prompt(&self) -> Step<'t, M>;
    /// The tokens that were generated, without the prompt's and with the token that ended a text. Where prompts of one batch end at different
    /// steps, each row knows its length, and as a matrix goes on with the token that ended it.
    ///
    /// # Shapes
    /// `(Batch, Seq)`, of which `Seq` has at most one entry for each step
    #[track_caller]
    fn tokens(&self) -> Value<'t, M::Signature, (Batch, Seq), Int>;
}

impl<'t, M: Interface> LanguageSteps<'t, M> for Generating<'t, M> {
    fn prompt(&self) -> Step<'t, M> {
        self.first()
    }

    #[track_caller]
    fn tokens(&self) -> Value<'t, M::Signature, (Batch, Seq), Int> {
        self.output()
    }
}
