//! Encoders as a kind of models.

use nnsight_core::graph::{Input, Rollout};
use nnsight_core::observer::Emitted;
use nnsight_core::trace::{ModelKind, Reads, Settings};

use crate::{IntoPrompts, PromptKind};

/// Encoders: they are run on prompts, of which every position sees all others, and return hidden states. No token follows on another, so that there
/// is nothing to generate: `generate!` on an encoder does not compile.
#[derive(Clone, Copy, Debug)]
pub enum Encoder {}

impl ModelKind for Encoder {
    type Settings = NoGeneration<Encoder>;
    type Emitted = Emitted;
}

impl PromptKind for Encoder {
    const GENERATES: bool = false;
}

impl<I: IntoPrompts> Reads<I> for Encoder {
    fn inputs(of: I) -> Vec<Input> {
        of.into_prompts().into_iter().map(Input::from).collect()
    }
}

/// The settings of a generation by models of the kind `K`, which do not generate: there are none.
///
/// # Examples
/// A program that asks for the default, as `generate!` does, is not compiled: `an encoder generates no tokens; read its hidden states with `trace!``.
/// ```compile_fail,E0080
/// let settings = nnsight_lm::NoGeneration::<nnsight_lm::Encoder>::default();
/// ```
#[derive(Clone, Copy, Debug)]
pub enum NoGeneration<K> {
    /// Only in words: this has no value.
    #[doc(hidden)]
    __Never(std::convert::Infallible, std::marker::PhantomData<K>),
}

impl<K> NoGeneration<K> {
    /// Fails the compilation of a program that asks for them, and of no other.
    const REFUSED: Self = panic!("an encoder generates no tokens; read its hidden states with `trace!`");
}

impl<K> Default for NoGeneration<K> {
    fn default() -> Self {
        Self::REFUSED
    }
}

impl<K: Clone> Settings for NoGeneration<K> {
    fn rollout(&self) -> Rollout {
        let NoGeneration::__Never(never, _) = self;
        match *never {}
    }
}
