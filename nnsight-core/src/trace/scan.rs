//! What a trace would give, found without computing anything.

use std::fmt::{Display, Formatter};

use crate::graph::Facts;

/// What is known of the values that a trace would save, in the order in which it saves them. It prints one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Kinds, axes and sizes; a size that depends on a text which no tokenizer was there for is open.
    pub saved: Vec<Facts>,
}

impl Scan {
    /// The sizes of the axes of each value, `None` where one is open.
    pub fn shapes(&self) -> Vec<Option<Vec<usize>>> {
        self.saved.iter().map(Facts::sizes).collect()
    }
}

impl Display for Scan {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.saved.iter().try_for_each(|facts| writeln!(f, "{facts}"))
    }
}
