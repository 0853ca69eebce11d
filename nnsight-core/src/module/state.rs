//! What modules keep from one pass to the next.

use std::any::Any;
use std::collections::HashMap;

use candle_core::Result;

use crate::graph::Span;

/// What a module keeps from one pass to the next: keys and values of earlier positions, the state of a scan, what an encoder left for its decoder.
pub trait ModuleState: Any {
    /// That of some rows as it was after their first `positions` positions, which come after so much padding, for runs that branch off there; `None` if
    /// it cannot be cut there. Passes begin with it and do not add to it.
    ///
    /// # Errors
    /// If the device fails.
    fn branch(&self, rows: Span, padding: usize, positions: usize) -> Result<Option<Box<dyn ModuleState>>>;
}

/// What all modules of a model keep, each by its first site.
#[derive(Default)]
pub struct States {
    of: HashMap<usize, Box<dyn ModuleState>>,
}

impl States {
    /// What a module keeps; nothing yet at its first pass.
    ///
    /// # Errors
    /// If it keeps something of another type.
    pub(super) fn of<S: ModuleState + Default>(&mut self, module: usize) -> Result<&mut S> {
        let state = self.of.entry(module).or_insert_with(|| Box::new(S::default()));
        let state: &mut dyn Any = &mut **state;
        match state.downcast_mut() {
            Some(state) => Ok(state),
            None => candle_core::bail!("a module keeps one state, and this one keeps another than a `{}`", std::any::type_name::<S>()),
        }
    }

    /// What the modules kept of the first positions of some rows.
    ///
    /// # Errors
    /// If there are not so many, or the state of a module cannot be cut at a position.
    pub(crate) fn branch(&self, rows: Span, padding: usize, positions: usize) -> Result<Self> {
        let mut of = HashMap::with_capacity(self.of.len());
        for (&module, state) in &self.of {
            match state.branch(rows, padding, positions)? {
                Some(state) => of.insert(module, state),
                None => candle_core::bail!("what a module keeps from pass to pass cannot be cut at position {positions}"),
            };
        }
        Ok(States { of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Sum(usize);
    #[derive(Default)]
    struct Other;
    impl ModuleState for Sum {
        fn branch(&self, _rows: Span, _padding: usize, positions: usize) -> Result<Option<Box<dyn ModuleState>>> {
            // It has all positions, and none of them alone.
            Ok((positions == self.0).then(|| Box::new(Sum(self.0)) as Box<dyn ModuleState>))
        }
    }
    impl ModuleState for Other {
        fn branch(&self, _rows: Span, _padding: usize, _positions: usize) -> Result<Option<Box<dyn ModuleState>>> {
            Ok(None)
        }
    }

    #[test]
    fn a_module_keeps_one_state_and_branches_where_it_can() {
        let mut states = States::default();
        states.of::<Sum>(3).unwrap().0 += 5;
        assert_eq!(states.of::<Sum>(3).unwrap().0, 5);
        assert_eq!(states.of::<Sum>(7).unwrap().0, 0, "another module has its own");
        states.of::<Sum>(7).unwrap().0 = 5;
        assert!(states.of::<Other>(3).err().unwrap().to_string().contains("Other"));
        let rows = Span { start: 0, len: 1 };
        assert_eq!(states.branch(rows, 0, 5).unwrap().of::<Sum>(3).unwrap().0, 5);
        assert!(states.branch(rows, 0, 4).err().unwrap().to_string().contains("cannot be cut at position 4"));
    }
}
