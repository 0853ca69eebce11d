//! A model with a module of the user's own attached to it.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use super::{Attachment, AttachmentRole, BelongsTo, Forward, Instrument, Role};
use crate::graph::{Facts, Graph, Limits};
use crate::observer::Observer;
use crate::sites::SiteTable;
use crate::trace::{Cursor, Fingerprint, Interface, Traceable};
use crate::types::Saved;
use crate::{Error, Result};

/// What modules can be attached to.
pub trait Attach: Traceable {
    /// Runs a graph with attached modules, whose sites the table has.
    ///
    /// # Errors
    /// As [`Traceable::run`].
    fn run_with(&self, table: &SiteTable, attachments: &[Attachment<'_>], graph: Graph, observer: Observer<'_>) -> Result<Vec<Result<Saved>>>;
    /// As [`Traceable::scan`], with the table's sites.
    ///
    /// # Errors
    /// As [`Traceable::scan`].
    fn scan_with(&self, table: &SiteTable, graph: Graph) -> Result<Vec<Facts>>;
}

/// A model with a module of the user's own attached to it, whose sites are those of `model.attached`. It derefs to the model.
pub struct Attached<'m, M, X> {
    model: &'m M,
    module: X,
    name: String,
    target: usize,
    place: AttachmentRole,
    table: Arc<SiteTable>,
}

impl<'m, M: Attach, X> Attached<'m, M, X>
where
    X: BelongsTo<<M::Network as Interface>::Signature> + Forward,
{
    /// Attaches a module; its paths begin with `name`.
    ///
    /// # Errors
    /// Where the model has no such place, the module does not take what is there, or the name is taken.
    pub fn new(model: &'m M, name: &str, role: Role<'_>, mut module: X) -> Result<Self> {
        let (target, place) = role.resolve(model.table())?;
        let table = model.table().attach::<X>(name, target, place != AttachmentRole::Probe)?;
        module.attach(&mut model.table().sites().len());
        Ok(Attached { model, module, name: name.to_string(), target, place, table: Arc::new(table) })
    }

    /// The module.
    pub fn module(&self) -> &X {
        &self.module
    }
}

impl<M, X> Deref for Attached<'_, M, X> {
    type Target = M;
    fn deref(&self) -> &M {
        self.model
    }
}

impl<M: Attach, X> Traceable for Attached<'_, M, X>
where
    X: BelongsTo<<M::Network as Interface>::Signature> + Forward,
{
    type Kind = M::Kind;
    type Network = NetworkWithAttachment<M::Network, X>;
    fn table(&self) -> &Arc<SiteTable> {
        &self.table
    }
    fn run(&self, graph: Graph, observer: Observer<'_>) -> Result<Vec<Result<Saved>>> {
        self.run_with(&self.table, &[], graph, observer)
    }
    fn scan(&self, graph: Graph) -> Result<Vec<Facts>> {
        self.scan_with(&self.table, graph)
    }
    fn limits(&self) -> Limits {
        self.model.limits()
    }
    fn fingerprint(&self) -> Result<Fingerprint> {
        // What the module computes with is known to it alone.
        Err(Error::NoFingerprint { what: "a model with an attached module, whose weights are its own,", source_line: None })
    }
}

impl<M: Attach, X> Attach for Attached<'_, M, X>
where
    X: BelongsTo<<M::Network as Interface>::Signature> + Forward,
{
    fn run_with(&self, table: &SiteTable, attachments: &[Attachment<'_>], graph: Graph, observer: Observer<'_>) -> Result<Vec<Result<Saved>>> {
        let own = Attachment { name: &self.name, target: self.target, place: self.place, module: &self.module };
        let attachments = [own].into_iter().chain(attachments.iter().copied()).collect::<Vec<_>>();
        self.model.run_with(table, &attachments, graph, observer)
    }
    fn scan_with(&self, table: &SiteTable, graph: Graph) -> Result<Vec<Facts>> {
        self.model.scan_with(table, graph)
    }
}

/// A network and an attached module.
pub struct NetworkWithAttachment<N, X>(PhantomData<fn() -> (N, X)>);

/// The sites of a model and of a module attached to it. It derefs to those of the model.
pub struct SitesWithAttachment<'t, N: Interface, X: Instrument> {
    /// The model's own.
    pub model: N::Sites<'t>,
    /// The attached module's.
    pub attached: X::Sites<'t, N::Signature>,
}

impl<N: Interface, X: Instrument> Clone for SitesWithAttachment<'_, N, X> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N: Interface, X: Instrument> Copy for SitesWithAttachment<'_, N, X> {}

impl<'t, N: Interface, X: Instrument> Deref for SitesWithAttachment<'t, N, X> {
    type Target = N::Sites<'t>;
    fn deref(&self) -> &N::Sites<'t> {
        &self.model
    }
}

impl<N: Interface, X: Instrument> Interface for NetworkWithAttachment<N, X> {
    type Signature = N::Signature;
    type Sites<'t> = SitesWithAttachment<'t, N, X>;
    fn sites<'t>(cursor: &mut Cursor<'t>) -> Self::Sites<'t> {
        SitesWithAttachment { model: N::sites(cursor), attached: X::sites(cursor) }
    }
}
