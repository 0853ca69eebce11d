//! Which optimizations the planner makes.

/// Which of the optimizations are made. Switching them off returns the same results, slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Optimizations {
    /// A pass, and a generation, ends where nothing more is needed.
    pub stop: bool,
    /// Runs on equal prompts share the layers before their first edits, and those that branch off from one position run side by side.
    pub share: bool,
    /// They also share the positions before the first that they edit or read behind it.
    pub positions: bool,
    /// Where a run's only edit writes what is there already, bit for bit, nothing behind it is computed again.
    pub cutoff: bool,
    /// The head, and the last layer where nobody looks into it, is run for those positions only that are read.
    pub lm_head: bool,
    /// What is computed twice is computed once (common subexpressions).
    pub cse: bool,
    /// A module that is applied by hand to many values is applied to all of them at once.
    pub batch_calls: bool,
    /// Element-wise operations one after the other are computed in one pass.
    pub fuse: bool,
    /// How much memory a batch may take.
    pub budget: Budget,
}

/// How much memory the values of one batch may take, beside the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// A quarter of what is free when the run begins.
    #[default]
    Auto,
    /// So many bytes.
    Bytes(usize),
    /// Any amount: whatever can stand in one batch does.
    Unlimited,
}

impl Budget {
    /// In bytes.
    pub fn bytes(self) -> usize {
        match self {
            Budget::Auto => free_memory().unwrap_or(4 << 30) / 4,
            Budget::Bytes(bytes) => bytes,
            Budget::Unlimited => usize::MAX,
        }
    }
}

/// What the system says is available, where it says so.
fn free_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

impl Optimizations {
    /// Everything as it is written: nothing is optimized, and all prompts that can stand in one batch do. What nothing needs is not run all the same:
    /// that is what a graph means.
    pub fn naive() -> Self {
        Optimizations {
            stop: false,
            share: false,
            positions: false,
            cutoff: false,
            lm_head: false,
            cse: false,
            batch_calls: false,
            fuse: false,
            budget: Budget::Unlimited,
        }
    }
}

impl Default for Optimizations {
    /// All optimizations.
    fn default() -> Self {
        Optimizations {
            stop: true,
            share: true,
            positions: true,
            cutoff: true,
            lm_head: true,
            cse: true,
            batch_calls: true,
            fuse: true,
            budget: Budget::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_of_bytes() {
        assert_eq!(Budget::Bytes(5).bytes(), 5);
        assert!(Budget::Auto.bytes() > 1 << 20 && Budget::Auto.bytes() < Budget::Unlimited.bytes());
    }
}
