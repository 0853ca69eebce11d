//! What has sites.

use super::Registrar;
use crate::graph::Axis;

/// What has sites to write into a table. Every module does, by `derive(Module)`.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a module", label = "write `#[derive(Module)]` on it")]
pub trait Describe {
    /// Writes its sites into a table, under a path.
    fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>);
}
