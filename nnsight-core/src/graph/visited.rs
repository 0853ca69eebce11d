//! What is known of visits to a model's sites, for as long as nobody touches the same rows there.

use std::collections::HashMap;

use super::{At, Graph, InvokeId};

/// Something for each visit: invoke, step and site. An invoke that sees all prompts shares rows with every other; two others share none.
#[derive(Debug)]
pub(crate) struct Visited<T> {
    own: HashMap<(u32, usize), HashMap<InvokeId, T>>,
    /// Those of invokes that see all prompts.
    of_all: HashMap<(u32, usize), HashMap<InvokeId, T>>,
}

impl<T> Default for Visited<T> {
    fn default() -> Self {
        Visited { own: HashMap::new(), of_all: HashMap::new() }
    }
}

impl<T> Visited<T> {
    /// What is known of a visit.
    pub fn get(&self, graph: &Graph, at: At, site: usize) -> Option<&T> {
        let known = if graph.sees_all(at.invoke) { &self.of_all } else { &self.own };
        known.get(&(at.step, site))?.get(&at.invoke)
    }

    /// What is known of a visit, to add to it.
    pub fn entry(&mut self, graph: &Graph, at: At, site: usize) -> &mut T
    where
        T: Default,
    {
        let known = if graph.sees_all(at.invoke) { &mut self.of_all } else { &mut self.own };
        known.entry((at.step, site)).or_default().entry(at.invoke).or_default()
    }

    /// Forgets what is known of visits to a site at the rows of an invoke.
    pub fn forget(&mut self, graph: &Graph, at: At, site: usize) {
        let visit = (at.step, site);
        self.of_all.remove(&visit);
        match graph.sees_all(at.invoke) {
            true => drop(self.own.remove(&visit)),
            false => drop(self.own.get_mut(&visit).and_then(|known| known.remove(&at.invoke))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Invoke;

    #[test]
    fn an_edit_of_all_prompts_is_one_of_each() {
        let invoke = |all_inputs| Invoke { all_inputs, ..Invoke::default() };
        let graph = Graph { invokes: vec![invoke(false), invoke(false), invoke(true)], ..Graph::default() };
        let (first, second, all) = (At::first(InvokeId(0)), At::first(InvokeId(1)), At::first(InvokeId(2)));
        let mut visited = Visited::default();
        let know = |visited: &mut Visited<u32>| [first, second, all].into_iter().for_each(|at| *visited.entry(&graph, at, 7) = 1);
        know(&mut visited);
        visited.forget(&graph, first, 7);
        assert_eq!([first, second, all].map(|at| visited.get(&graph, at, 7).is_some()), [false, true, false]);
        know(&mut visited);
        visited.forget(&graph, all, 8);
        assert_eq!([first, second, all].map(|at| visited.get(&graph, at, 7).is_some()), [true, true, true]);
        visited.forget(&graph, all, 7);
        assert_eq!([first, second, all].map(|at| visited.get(&graph, at, 7).is_some()), [false, false, false]);
    }
}
