//! What the rest of the library needs to know of a module.

use super::{Forward, Place};
use crate::graph::Axis;
use crate::sites::{Describe, Registrar};
use crate::trace::Cursor;
use crate::types::Signature;

/// What the rest of the library needs to know of a module. Written by `derive(Module)`.
pub trait Instrument: 'static {
    /// Its sites as a struct with the names of its fields, typed by a checkpoint.
    type Sites<'t, C: Signature>: Copy;
    /// The number of its sites, or `None` where it depends on the number of layers.
    const COUNT: Option<usize>;
    /// Writes its sites into a table.
    fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>);
    /// Makes the struct of its sites.
    fn sites<'t, C: Signature>(cursor: &mut Cursor<'t>) -> Self::Sites<'t, C>;
    /// Sets its place and that of everything inside, `next` being the first free one.
    fn attach(&mut self, next: &mut usize);
    /// Its place.
    fn place(&self) -> Place;
    /// A module inside that can be applied by hand, by its path from here.
    fn find(&self, path: &str) -> Option<&dyn Forward>;
}

impl<M: Instrument> Describe for M {
    fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>) {
        <M as Instrument>::describe(registrar, path, pointwise);
    }
}

/// Says that a module can be attached to a model of the checkpoint `C`. Written by `derive(Module)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a module of another checkpoint than `{C}`",
    label = "not a module of `{C}`",
    note = "what a module was trained on means something else in another model; a module without a type parameter for its signature fits all"
)]
pub trait BelongsTo<C>: Instrument {}
