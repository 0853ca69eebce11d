//! Who is told of a run while it goes on.

use std::fmt::{Display, Formatter};

use candle_core::Tensor;

use crate::graph::{Source, printable};
use crate::types::Saved;

/// Who is told of a run while it goes on. By default nobody, but for [`Note`]s, which are printed.
#[derive(Default)]
pub struct Observer<'t> {
    /// Of everything that a step of a rollout yields: a token, a latent.
    pub on_emitted: Option<&'t mut dyn FnMut(Emitted)>,
    /// Of every batch that is done.
    pub on_batch: Option<&'t mut (dyn FnMut(Progress) + Send)>,
    /// Of what the graph has to say. If nobody is told of it, it is printed, as [`Note::print`] does.
    pub on_note: Option<&'t mut (dyn FnMut(Note) + Send)>,
}

/// What a graph has to say while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Note {
    /// A value that the program logs.
    Logged {
        /// What the program calls it, in characters that can be printed.
        label: String,
        /// The value.
        value: Tensor,
        /// The line in the user's program.
        source_line: Option<Source>,
    },
    /// What was to be done at a step that never happened.
    NeverReached {
        /// The first of those steps.
        step: u32,
        /// How many steps there were.
        reached: usize,
        /// The line in the user's program.
        source_line: Option<Source>,
    },
}

impl Note {
    pub(crate) fn logged(label: &str, value: Tensor, source_line: Option<Source>) -> Self {
        Note::Logged { label: printable(label), value, source_line }
    }

    /// Prints it: a value that the program logs to standard output, anything else to standard error.
    #[allow(clippy::print_stdout, clippy::print_stderr)]
    pub fn print(&self) {
        match self {
            Note::Logged { .. } => println!("{self}"),
            Note::NeverReached { .. } => eprintln!("{self}"),
        }
    }
}

impl Display for Note {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Note::Logged { label, value, source_line } => write!(f, "{}{label} = {value}", crate::error::at(source_line)),
            Note::NeverReached { step, reached, source_line } => {
                write!(f, "{}step {step} and what follows never happened: the run ended after {reached} steps", crate::error::at(source_line))
            }
        }
    }
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

/// What a step of a rollout has just yielded for one input.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// Of which invoke.
    pub invoke: usize,
    /// Of which of its inputs.
    pub input: usize,
    /// At which step.
    pub step: usize,
    /// What.
    pub value: EmittedValue,
}

/// What a step yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EmittedValue {
    /// A whole number, such as the id of a token.
    Id(u32),
    /// Numbers.
    Tensor(Tensor),
}
