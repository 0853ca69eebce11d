//! A model as a trace sees it: its sites, typed by a checkpoint.

use std::marker::PhantomData;

use super::{Cursor, Instrument};
use crate::types::Signature;

/// The typed sites of a model. What is typed is the outside only: the model itself is compiled once, whatever its signature.
pub trait Interface: 'static {
    /// The checkpoint.
    type Signature: Signature;
    /// The sites as a struct with the names of the model's fields.
    type Sites<'t>: Copy;
    /// Makes that struct.
    fn sites<'t>(cursor: &mut Cursor<'t>) -> Self::Sites<'t>;
}

/// The sites of the module `M` in the checkpoint `C`.
pub struct Of<M, C>(PhantomData<fn() -> (M, C)>);

impl<M: Instrument, C: Signature> Interface for Of<M, C> {
    type Signature = C;
    type Sites<'t> = M::Sites<'t, C>;
    fn sites<'t>(cursor: &mut Cursor<'t>) -> Self::Sites<'t> {
        M::sites::<C>(cursor)
    }
}
