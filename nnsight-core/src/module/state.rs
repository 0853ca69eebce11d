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
    pub(super) fn of<S: ModuleState + Default>(&mut self, module: usize) -> Option<&mut S> {
        let state = self.of.entry(module).or_insert_with(|| Box::new(S::default()));
        (&mut **state as &mut dyn Any).downcast_mut()
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
