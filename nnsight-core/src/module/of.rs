//! A module as a trace sees it.

use std::marker::PhantomData;

use super::Instrument;
use crate::trace::{Cursor, Interface};
use crate::types::Signature;

/// The sites of the module `M` in the checkpoint `C`.
pub struct Of<M, C>(PhantomData<fn() -> (M, C)>);

impl<M: Instrument, C: Signature> Interface for Of<M, C> {
    type Signature = C;
    type Sites<'t> = M::Sites<'t, C>;
    fn sites<'t>(cursor: &mut Cursor<'t>) -> Self::Sites<'t> {
        M::sites::<C>(cursor)
    }
}
