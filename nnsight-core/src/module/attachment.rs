//! Modules of the user's own, attached to a model.

use candle_core::Tensor;

use super::{Cx, Forward, Instrument};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// Where a module is attached to a model, by the model's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'p> {
    /// It sees what a site holds, and changes nothing: a probe. What it gives is used by the trace.
    Probe(&'p str),
    /// What a site holds goes through it: an autoencoder spliced into the residual stream.
    Splice(&'p str),
    /// It is given what a module is given, and stands in for it; the module is not run: a transcoder.
    Replace(&'p str),
}

/// The names that the roles had.
#[allow(non_snake_case)]
impl<'p> Role<'p> {
    /// As [`Role::Probe`].
    #[deprecated(since = "0.2.0", note = "renamed to `Role::Probe`")]
    pub fn Beside(path: &'p str) -> Self {
        Role::Probe(path)
    }
    /// As [`Role::Splice`].
    #[deprecated(since = "0.2.0", note = "renamed to `Role::Splice`")]
    pub fn Through(path: &'p str) -> Self {
        Role::Splice(path)
    }
    /// As [`Role::Replace`].
    #[deprecated(since = "0.2.0", note = "renamed to `Role::Replace`")]
    pub fn InPlaceOf(path: &'p str) -> Self {
        Role::Replace(path)
    }
}

/// What a model does with an attached module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachmentRole {
    Probe,
    Splice,
    Replace,
}

impl Role<'_> {
    /// The site behind which the module is run, and how.
    pub(crate) fn resolve(self, table: &SiteTable) -> Result<(usize, AttachmentRole)> {
        let (path, site, place) = match self {
            Role::Probe(path) => (path, table.position(path), AttachmentRole::Probe),
            Role::Splice(path) => (path, table.position(path), AttachmentRole::Splice),
            Role::Replace(path) => (path, table.position(&format!("{path}.input")), AttachmentRole::Replace),
        };
        let suggestion = || crate::error::did_you_mean(table.suggest(path));
        site.map(|site| (site, place)).ok_or_else(|| Error::NoSite {
            path: crate::error::shortened(path),
            suggestion: suggestion(),
            source_line: None,
        })
    }
}

/// A module that can be called without its type being known.
pub(crate) trait Callable {
    fn call(&self, input: &Tensor, cx: &mut Cx) -> Result<Tensor>;
    fn find_inside(&self, path: &str) -> Option<&dyn Forward>;
}

impl<M: Forward + Instrument> Callable for M {
    fn call(&self, input: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        cx.call(self, input)
    }
    fn find_inside(&self, path: &str) -> Option<&dyn Forward> {
        Instrument::find(self, path)
    }
}

/// An attached module while a model runs.
#[derive(Clone, Copy)]
pub struct Attachment<'a> {
    pub(crate) name: &'a str,
    pub(crate) target: usize,
    pub(crate) place: AttachmentRole,
    pub(crate) module: &'a dyn Callable,
}
