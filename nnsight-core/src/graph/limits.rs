//! How much a graph may ask for.

use std::sync::LazyLock;

/// How much a graph may ask for. What asks for more is refused before anything runs.
///
/// The default is generous: it is meant for one's own graphs, and refuses what the machine's memory could not hold or what would not end. Whoever
/// runs graphs of others sets limits of their own: [`Graph::from_json_within`](super::Graph::from_json_within) reads within them, and a model runs
/// within those that it was given.
///
/// # Examples
/// ```
/// use nnsight_core::graph::Limits;
/// let strict = Limits { nodes: 10_000, bytes: 1 << 28, work: 1 << 32, ..Limits::default() };
/// assert!(strict.value_entries > 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of any list of the graph. Nodes are counted together with those in the bodies of loops.
    pub nodes: usize,
    /// Entries of all constants together.
    pub constant_entries: usize,
    /// Entries of any value, and of what an operation computes on the way to it.
    pub value_entries: usize,
    /// Ids, bytes of text, and entries of tensors, of all inputs together.
    pub input_size: usize,
    /// Inputs of all blocks together. A block on all inputs has those of all others.
    pub inputs: usize,
    /// Steps of a rollout.
    pub steps: usize,
    /// Bytes of a name: that of an axis, a site, a module, a label or a file; and of the settings of a rollout.
    pub name_bytes: usize,
    /// Rounds of all loops of a run together.
    pub rounds: usize,
    /// Bytes of the values that exist at one time, and of a pass of the model, as they are estimated before the run.
    pub bytes: usize,
    /// Entries that the operations of a graph compute, as they are estimated before the run. A matrix product counts a 64th of its multiplications,
    /// and the smallest operation counts 1024: that is about what an operation costs by itself.
    pub work: usize,
    /// Token-layers: layers of the model, times the positions for which each is run.
    pub token_layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            nodes: 1_000_000,
            constant_entries: 1 << 30,
            value_entries: 1 << 31,
            input_size: 1 << 24,
            inputs: 1 << 20,
            steps: 1 << 20,
            name_bytes: 4096,
            rounds: 10_000_000,
            bytes: *HALF,
            work: 1 << 42,
            token_layers: 1 << 30,
        }
    }
}

/// Half of the memory that this process may have.
static HALF: LazyLock<usize> = LazyLock::new(|| memory() / 2);

/// The memory that this process may have: that of the machine, or what its control group grants. 16 GiB if the system does not say.
fn memory() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let granted = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let granted = granted.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    granted.chain(machine).min().unwrap_or(16 << 30)
}

/// The bytes that a `/proc/meminfo` names as the machine's memory.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_half_of_the_memory() {
        assert_eq!(total("MemTotal:       24030608 kB\nMemFree: 1 kB\n"), Some(24_030_608 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!((1 << 26..=usize::MAX / 2).contains(&Limits::default().bytes));
    }
}
