//! The positions that a model's head is asked for.

use candle_core::Tensor;

use crate::graph::Span;

/// Positions that follow each other, counted from the end of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Which from the end the first of them is; 1 is the last position.
    pub from: usize,
    /// How many positions come after them.
    pub behind: usize,
}

impl Window {
    /// The last position.
    pub const LAST: Window = Window { from: 1, behind: 0 };

    /// How many positions it has.
    pub fn count(self) -> usize {
        self.from - self.behind
    }

    /// Both, and what lies between them.
    #[must_use]
    pub fn and(self, other: Window) -> Self {
        Window { from: self.from.max(other.from), behind: self.behind.min(other.behind) }
    }

    /// Its part of `width` positions.
    pub fn span(self, width: usize) -> Span {
        let (start, end) = (width.saturating_sub(self.from), width.saturating_sub(self.behind));
        Span { start, len: end - start }
    }

    /// Its part of a value whose axes begin with rows and positions.
    ///
    /// # Errors
    /// Where `x` has one axis.
    pub fn of(self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Span { start, len } = self.span(x.dim(1)?);
        x.narrow(1, start, len)
    }
}
