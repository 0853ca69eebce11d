//! A module as a trace sees it.

use std::fmt::{Display, Formatter};
use std::marker::PhantomData;

use super::cursor::MISSING;
use super::{Assigned, Site, Tracer};
use crate::Error;
use crate::graph::At;
use crate::types::{Kind, Shape, Signature};

/// A module as a trace sees it. Every struct of sites has one.
pub struct ModuleHandle<'t, C> {
    tracer: &'t Tracer,
    at: Option<At>,
    module: usize,
    marker: PhantomData<fn() -> C>,
}

impl<C> Clone for ModuleHandle<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C> Copy for ModuleHandle<'_, C> {}

impl<C> std::fmt::Debug for ModuleHandle<'_, C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path())
    }
}

impl<'t, C: Signature> ModuleHandle<'t, C> {
    pub(crate) fn new(tracer: &'t Tracer, at: Option<At>, module: usize) -> Self {
        ModuleHandle { tracer, at, module, marker: PhantomData }
    }

    /// The trace.
    pub(crate) fn tracer(&self) -> &'t Tracer {
        self.tracer
    }

    /// The pass that it is seen at.
    pub(crate) fn at(&self) -> Option<At> {
        self.at
    }

    /// Its sites and those of everything inside, with their shapes.
    pub fn sites(&self) -> SiteList {
        let table = self.tracer.table();
        let range = table.modules().get(self.module).map(|module| module.sites.clone()).unwrap_or_default();
        SiteList(table.sites()[range].iter().map(|site| (site.path.clone(), site.facts.to_string())).collect())
    }

    /// What the module is given: its input, and what comes to it from elsewhere, such as an attention's mask.
    pub fn inputs(&self) -> SiteList {
        let table = self.tracer.table();
        let range = table.modules().get(self.module).map(|module| module.sites.clone()).unwrap_or_default();
        let own = range.filter(|&site| table.sites()[site].is_argument && table.module_of(site).path == self.path());
        SiteList(own.map(|site| (table.sites()[site].path.clone(), table.sites()[site].facts.to_string())).collect())
    }

    /// A site by its path from here. One that does not exist, or that does not hold what is expected, makes the trace fail with this line.
    #[track_caller]
    pub fn get<S: Shape, K: Kind>(&self, path: &str) -> Site<'t, C, S, K> {
        let table = self.tracer.table();
        let full = match self.path() {
            "" => path.to_string(),
            own => format!("{own}.{path}"),
        };
        let Some(index) = table.position(&full) else {
            let suggestion = crate::error::did_you_mean(table.suggest(&full));
            self.tracer.fail(|source_line| Error::NoSite { path: crate::error::shortened(&full), suggestion, source_line });
            return Site::new(self.tracer, self.at, MISSING);
        };
        let facts = &table.sites()[index].facts;
        if facts.kind != K::TAG || !facts.axes.iter().map(|axis| axis.name.as_ref()).eq(S::NAMES.iter().copied()) {
            let problem = format!("it holds {facts}, and is asked for as ({}) of kind {}", S::NAMES.join(", "), K::TAG.name());
            self.tracer.fail(|source_line| Error::Mismatch { op: full, problem, source_line });
        }
        Site::new(self.tracer, self.at, index).stamped()
    }

    /// In place of a site that the module does not have. Using it makes the trace fail.
    #[doc(hidden)]
    pub fn absent<S: Shape, K: Kind>(&self) -> Site<'t, C, S, K> {
        Site::new(self.tracer, self.at, MISSING)
    }

    /// Gives `value` as the module's output, whose inside is then not run.
    #[track_caller]
    pub fn skip<S: Shape, K: Kind>(&self, output: Site<'t, C, S, K>, value: impl Assigned<'t, C, S, K>) {
        self.tracer.skip(self.at, output.index, value.assigned(self.tracer));
    }
}

impl<C> ModuleHandle<'_, C> {
    /// As the checkpoint names it; the model itself has the empty path.
    pub fn path(&self) -> &str {
        self.tracer.table().modules().get(self.module).map_or("", |module| module.path.as_str())
    }
}

/// The sites of a module: paths and shapes. It prints one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteList(pub Vec<(String, String)>);

impl Display for SiteList {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let width = self.0.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0);
        self.0.iter().try_for_each(|(path, facts)| writeln!(f, "{path:width$}  {facts}"))
    }
}
