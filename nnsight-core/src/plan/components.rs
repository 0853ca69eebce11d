//! What lies on a circle together.

const UNSEEN: usize = usize::MAX;

/// The strongly connected components of `count` vertices (Tarjan 1972), without recursion: a number for each vertex, equal for those of one
/// component, and lower for what a component needs. `needed(vertex, n)` is the `n`th vertex that a vertex needs.
pub(super) fn components(count: usize, needed: impl Fn(usize, usize) -> Option<usize>) -> Vec<usize> {
    let mut search =
        Search { found: vec![UNSEEN; count], low: vec![0; count], component: vec![UNSEEN; count], open: Vec::new(), path: Vec::new(), next: 0 };
    let mut closed = 0;
    for root in 0..count {
        if search.found[root] == UNSEEN {
            search.enter(root);
        }
        while let Some((vertex, edge)) = search.path.last_mut() {
            let vertex = *vertex;
            *edge += 1;
            match needed(vertex, *edge - 1) {
                Some(other) if search.found[other] == UNSEEN => search.enter(other),
                Some(other) if search.component[other] == UNSEEN => search.low[vertex] = search.low[vertex].min(search.found[other]),
                Some(_) => {}
                None => search.leave(vertex, &mut closed),
            }
        }
    }
    search.component
}

struct Search {
    /// When each vertex was found.
    found: Vec<usize>,
    /// The first vertex of its component that is known to be reached from it, by when that was found.
    low: Vec<usize>,
    component: Vec<usize>,
    /// The vertices whose component is not known yet.
    open: Vec<usize>,
    /// The vertices between the root and here, and which of their edges is next.
    path: Vec<(usize, usize)>,
    next: usize,
}

impl Search {
    fn enter(&mut self, vertex: usize) {
        (self.found[vertex], self.low[vertex]) = (self.next, self.next);
        self.next += 1;
        self.open.push(vertex);
        self.path.push((vertex, 0));
    }

    fn leave(&mut self, vertex: usize, closed: &mut usize) {
        self.path.pop();
        if let Some(&(before, _)) = self.path.last() {
            self.low[before] = self.low[before].min(self.low[vertex]);
        }
        if self.low[vertex] == self.found[vertex] {
            while let Some(member) = self.open.pop() {
                self.component[member] = *closed;
                if member == vertex {
                    break;
                }
            }
            *closed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_one_component_and_come_after_what_they_need() {
        // 0 and 1 need each other, 1 needs 2, which needs 3 and 4; 5 needs itself.
        let needs: [&[usize]; 6] = [&[1], &[0, 2], &[3, 4], &[], &[3], &[5]];
        let found = components(6, |vertex, edge| needs[vertex].get(edge).copied());
        assert_eq!(found[0], found[1]);
        assert!(found[3] < found[4] && found[4] < found[2] && found[2] < found[0]);
        assert_eq!(found.iter().collect::<std::collections::HashSet<_>>().len(), 5);
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let found = components(1_000_000, |vertex, edge| (edge == 0 && vertex + 1 < 1_000_000).then_some(vertex + 1));
        assert_eq!((found[0], found[999_999]), (999_999, 0));
    }
}
