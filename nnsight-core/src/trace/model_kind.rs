//! Kinds of models: what they are run on, and how their runs go on.

use crate::graph::{Input, Rollout};
use crate::observer::Emitted;

/// A kind of model, such as language models: what it is run on ([`Reads`]), and how its runs go on after their first pass.
pub trait ModelKind: 'static {
    /// How its runs go on, as a program says it.
    type Settings: Settings;
    /// What whoever looks on is told of a step: a token, a latent.
    type Emitted: From<Emitted>;
}

/// How runs go on after their first pass, as a program says it. The default is what `generate!` takes if it is told nothing.
pub trait Settings: Default + Clone {
    /// The same as data.
    fn rollout(&self) -> Rollout;
}

/// Says that models of this kind can be run on an `I`.
#[diagnostic::on_unimplemented(message = "models of the kind `{Self}` are not run on `{I}`")]
pub trait Reads<I>: ModelKind {
    /// The inputs, one row of the batch each.
    fn inputs(of: I) -> Vec<Input>;
}
