//! Which savings the planner makes.

/// Which of the savings are made. Switching them off gives the same results, slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Runs on equal prompts share what comes before their edits.
    pub share: bool,
    /// Where a run's only edit writes what is there already, bit for bit, nothing behind it is computed again.
    pub cutoff: bool,
    /// The head is run for the last position only where no other is read.
    pub last_position: bool,
}

impl Plan {
    /// Everything as it is written.
    pub fn naive() -> Self {
        Plan { share: false, cutoff: false, last_position: false }
    }
}

impl Default for Plan {
    /// All savings.
    fn default() -> Self {
        Plan { share: true, cutoff: true, last_position: true }
    }
}
