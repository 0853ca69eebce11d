//! A model as a trace sees it: its sites, typed by a checkpoint.

use super::Cursor;
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
