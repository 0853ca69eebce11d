//! Makes the structs of sites, in the order of the table.

use super::layers::count_of;
use super::{Layers, ModuleHandle, Site, Tracer};
use crate::graph::At;
use crate::types::{DimName, Signature};

/// Stands at the next site while the structs of sites are made. `derive(Module)` calls it.
pub struct Cursor<'t> {
    tracer: &'t Tracer,
    at: Option<At>,
    next: usize,
    next_module: usize,
}

/// The site, or the module, of a layer that does not exist. Its use was reported when the layer was asked for.
pub(super) const MISSING: usize = usize::MAX / 2;

impl<'t> Cursor<'t> {
    pub(crate) fn new(tracer: &'t Tracer, at: Option<At>) -> Self {
        Cursor { tracer, at, next: 0, next_module: 0 }
    }

    /// The next module, which begins here.
    pub fn module<C: Signature>(&mut self) -> ModuleHandle<'t, C> {
        self.next_module += 1;
        ModuleHandle::new(self.tracer, self.at, self.next_module - 1)
    }

    /// The next site.
    pub fn site<C, S, K>(&mut self) -> Site<'t, C, S, K> {
        let index = self.next;
        self.next += 1;
        Site::new(self.tracer, self.at, index)
    }

    /// The sites of a list as long as the model's `L`.
    pub fn list<C, T: Copy, L: DimName>(&mut self, make: impl Fn(&mut Self) -> T) -> Layers<'t, C, T, L> {
        let list = self.next_module;
        self.next_module += 1;
        // Without a length, the table was not made.
        let length = self.tracer.table().length_of(count_of::<L>()).unwrap_or(0);
        let mut layers = (0..length).map(|_| make(self)).collect::<Vec<_>>();
        let after = (self.next, self.next_module);
        (self.next, self.next_module) = (MISSING, MISSING);
        layers.push(make(self));
        (self.next, self.next_module) = after;
        Layers::new(self.tracer, list, self.tracer.keep(layers))
    }
}
