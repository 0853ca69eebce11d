//! Makes the structs of sites, in the order of the table.

use crate::graph::InvokeId;
use crate::trace::{Layers, Site, Tracer};

/// Stands at the next site while the structs of sites are made. `derive(Module)` calls it.
pub struct Cursor<'t> {
    tracer: &'t Tracer,
    invoke: Option<InvokeId>,
    next: usize,
}

/// The site of a layer that does not exist. Its use was reported when the layer was asked for.
pub(crate) const MISSING: usize = usize::MAX / 2;

impl<'t> Cursor<'t> {
    pub(crate) fn new(tracer: &'t Tracer, invoke: Option<InvokeId>) -> Self {
        Cursor { tracer, invoke, next: 0 }
    }

    /// The next site.
    pub fn site<C, S, K>(&mut self) -> Site<'t, C, S, K> {
        let index = self.next;
        self.next += 1;
        Site::new(self.tracer, self.invoke, index)
    }

    /// The sites of a list of layers.
    pub fn list<C, T: Copy>(&mut self, make: impl Fn(&mut Self) -> T) -> Layers<'t, C, T> {
        let first = self.next;
        let mut layers = (0..self.tracer.table().depth).map(|_| make(self)).collect::<Vec<_>>();
        let after = std::mem::replace(&mut self.next, MISSING);
        layers.push(make(self));
        self.next = after;
        Layers::new(self.tracer, first, self.tracer.keep(layers))
    }
}
