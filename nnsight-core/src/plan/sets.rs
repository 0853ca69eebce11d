//! Sets that are joined until they are asked for.

/// Disjoint sets of numbers, each named by its smallest member (Galler and Fischer 1964).
pub(super) struct Sets(Vec<usize>);

impl Sets {
    /// Each number below `count` in a set of its own.
    pub fn new(count: usize) -> Self {
        Sets((0..count).collect())
    }

    /// The smallest member of a set.
    pub fn root(&mut self, mut member: usize) -> usize {
        while self.0[member] != member {
            self.0[member] = self.0[self.0[member]];
            member = self.0[member];
        }
        member
    }

    /// Makes two sets one.
    pub fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_sets_have_one_smallest_member() {
        let mut sets = Sets::new(1000);
        (0..900).for_each(|member| sets.join(999 - member, 998 - member));
        assert_eq!((sets.root(999), sets.root(99), sets.root(98)), (99, 99, 98));
        sets.join(98, 500);
        assert_eq!((sets.root(999), sets.root(98), sets.root(0)), (98, 98, 0));
    }
}
