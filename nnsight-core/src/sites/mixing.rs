//! How a module mixes positions.

/// How the value of a position comes to depend on those of others, where a module mixes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mixing {
    /// On those before it: attention under a causal mask.
    Causal,
    /// On the last so many, itself included: attention in a window.
    Window(usize),
    /// On those before it, through a state that is carried along and cannot be cut at a position: a recurrent or state-space model.
    Scan,
    /// On all of them: attention without a mask.
    All,
}

impl Mixing {
    /// What two of them one after the other do.
    #[must_use]
    pub fn and(self, later: Mixing) -> Mixing {
        match (self, later) {
            (Mixing::All, _) | (_, Mixing::All) => Mixing::All,
            (Mixing::Scan, _) | (_, Mixing::Scan) => Mixing::Scan,
            (Mixing::Window(first), Mixing::Window(second)) => Mixing::Window((first + second).saturating_sub(1)),
            _ => Mixing::Causal,
        }
    }
}
