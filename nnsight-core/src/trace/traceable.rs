//! What a trace can be run on.

use std::sync::Arc;

use super::{IntoPrompts, Results, Save, Tracer};
use crate::Result;
use crate::graph::Graph;
use crate::module::{Instrument, SiteTable};

/// What a trace can be run on: a model in this process, or a handle to one elsewhere.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a model that can be traced", note = "`trace!` takes a model as its first argument")]
pub trait Traceable {
    /// The model whose sites are used.
    type Network: Instrument;
    /// The sites.
    fn table(&self) -> &Arc<SiteTable>;
    /// Runs a graph; gives a tensor for each of its saved values.
    ///
    /// # Errors
    /// What the graph or the model fails with.
    fn execute(&self, graph: Graph) -> Result<Vec<candle_core::Tensor>>;
}

impl<M: Traceable + ?Sized> Traceable for &M {
    type Network = M::Network;
    fn table(&self) -> &Arc<SiteTable> {
        M::table(self)
    }
    fn execute(&self, graph: Graph) -> Result<Vec<candle_core::Tensor>> {
        M::execute(self, graph)
    }
}

/// Starts recording on a model. `trace!` calls it.
pub fn tracer(model: &impl Traceable) -> Tracer {
    Tracer::new(Arc::clone(model.table()))
}

/// The sites of a model outside of any prompt. `trace!` calls it.
pub fn sites<'t, M: Traceable>(_model: &M, tracer: &'t Tracer) -> <M::Network as Instrument>::Sites<'t> {
    tracer.sites::<M::Network>()
}

/// The sites of a model as seen by new prompts. `trace!` and `invoke!` call it.
pub fn invoke<'t, M: Traceable>(_model: &M, tracer: &'t Tracer, prompts: impl IntoPrompts) -> <M::Network as Instrument>::Sites<'t> {
    tracer.invoke::<M::Network>(prompts)
}

/// Runs what was recorded, and gives back what the block ended with. `trace!` calls it.
///
/// # Errors
/// What the graph or the model fails with.
#[track_caller]
pub fn run<'t, M: Traceable, T: Save<'t>>(model: &M, tracer: &'t Tracer, outcome: T) -> Result<T::Saved> {
    let mut saves = Vec::new();
    let form = outcome.register(&mut saves);
    let tensors = model.execute(tracer.finish(saves)?)?;
    Ok(T::collect(form, &mut Results::new(tensors)))
}

/// Gives what was recorded as data. `graph!` calls it.
///
/// # Errors
/// What was wrong with the use of a site.
#[track_caller]
pub fn graph<'t, T: Save<'t>>(tracer: &'t Tracer, outcome: T) -> Result<Graph> {
    let mut saves = Vec::new();
    outcome.register(&mut saves);
    tracer.finish(saves)
}
