//! Who is told of a run while it goes on.

use crate::types::Saved;

/// Who is told of a run while it goes on. By default nobody.
#[derive(Default)]
pub struct Observer<'t> {
    /// Of every token that is generated.
    pub on_token: Option<&'t mut dyn FnMut(Token)>,
    /// Of every batch that is done.
    pub on_batch: Option<&'t mut (dyn FnMut(Progress) + Send)>,
}

/// As [`Observer`].
#[deprecated(since = "0.2.0", note = "renamed to `Observer`")]
pub type Watch<'t> = Observer<'t>;

/// How far a run has come.
#[derive(Debug)]
pub struct Progress {
    /// Token-layers that are done: one layer for one position of one prompt each.
    pub done: usize,
    /// Token-layers that there are, at most.
    pub of: usize,
    /// The saved values that have come into being since the last time, by their place among the graph's.
    pub saved: Vec<(usize, Saved)>,
}

/// A token that was just chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of which invoke.
    pub invoke: usize,
    /// Of which of its prompts.
    pub prompt: usize,
    /// At which step.
    pub step: usize,
    /// Its id.
    pub id: u32,
}
