//! What a trace can be run on, and what the macros call.

use std::panic::Location;
use std::sync::Arc;

use super::edit::{Edit, Edited};
use super::scan::Scan;
use super::{Fingerprint, Generating, Interface, ModelKind, Reads, Results, Save, Settings, Tracer};
use crate::graph::{At, Facts, Graph, Input, Limits};
use crate::observer::{Emitted, Observer};
use crate::sites::SiteTable;
use crate::types::Saved;
use crate::{Error, Result};

/// What a trace can be run on: a model in this process, an edited view of one, or a handle to one elsewhere.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a model that can be traced", note = "`trace!` takes a model as its first argument")]
pub trait Traceable {
    /// The model whose sites are used.
    type Network: Interface;
    /// What kind of model it is: what it is run on.
    type Kind: ModelKind;
    /// The sites.
    fn table(&self) -> &Arc<SiteTable>;
    /// Runs a graph; gives for each of its saved values a tensor, or why there is none. Whoever watches is told of it while it goes
    /// on.
    ///
    /// # Errors
    /// What the graph or the model fails with.
    fn run(&self, graph: Graph, observer: Observer<'_>) -> Result<Vec<Result<Saved>>>;
    /// Checks a graph as a run would, without computing anything; returns what is known of its saved values.
    ///
    /// # Errors
    /// What the graph fails with.
    fn scan(&self, graph: Graph) -> Result<Vec<Facts>>;
    /// How much a graph may ask for here.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    /// What tells this model from others, so that the file of a sweep is not taken for that of another model.
    ///
    /// # Errors
    /// [`Error::NoFingerprint`] if it cannot be told from others: a sweep on it has no file.
    fn fingerprint(&self) -> Result<Fingerprint> {
        Err(Error::NoFingerprint { what: "this model", source_line: None })
    }
    /// Runs a graph; gives a tensor for each of its saved values.
    ///
    /// # Errors
    /// As [`Traceable::run`], where one of the values never came into being, and [`Error::RowsDiffer`](crate::Error::RowsDiffer) where candle
    /// would take padding for entries.
    #[track_caller]
    fn execute(&self, graph: Graph) -> Result<Vec<candle_core::Tensor>> {
        let mut whole = Vec::new();
        for saved in self.run(graph, Observer::default())? {
            whole.push(saved?.whole()?.clone());
        }
        Ok(whole)
    }
}

impl<M: Traceable + ?Sized> Traceable for &M {
    type Network = M::Network;
    type Kind = M::Kind;
    fn table(&self) -> &Arc<SiteTable> {
        M::table(self)
    }
    fn run(&self, graph: Graph, observer: Observer<'_>) -> Result<Vec<Result<Saved>>> {
        M::run(self, graph, observer)
    }
    fn scan(&self, graph: Graph) -> Result<Vec<Facts>> {
        M::scan(self, graph)
    }
    fn limits(&self) -> Limits {
        M::limits(self)
    }
    fn fingerprint(&self) -> Result<Fingerprint> {
        M::fingerprint(self)
    }
}

/// Starts recording on a model.
pub fn tracer(model: &impl Traceable) -> Tracer {
    Tracer::new(Arc::clone(model.table()))
}

/// The sites of a model outside of any prompt.
pub fn sites<'t, M: Traceable>(_model: &M, tracer: &'t Tracer) -> <M::Network as Interface>::Sites<'t> {
    tracer.sites::<M::Network>(None)
}

/// The sites of a model as seen by new inputs.
#[track_caller]
pub fn invoke<'t, M: Traceable<Kind = K>, K: Reads<I>, I>(_model: &M, tracer: &'t Tracer, input: I) -> <M::Network as Interface>::Sites<'t> {
    tracer.sites::<M::Network>(Some(At::first(tracer.invoke(K::inputs(input), None))))
}

/// The inputs of a sweep's points, or of one of them.
pub fn sweep_on<M: Traceable<Kind = K>, K: Reads<I>, I>(_model: &M, tracer: &Tracer, input: I) -> Vec<Input> {
    tracer.begin_sweep();
    K::inputs(input)
}

/// The sites of a model at one point of a sweep.
#[track_caller]
pub fn point<'t, M: Traceable>(_model: &M, tracer: &'t Tracer, inputs: &[Input]) -> <M::Network as Interface>::Sites<'t> {
    tracer.sites::<M::Network>(Some(At::first(tracer.invoke(inputs.to_vec(), None))))
}

/// The sites of a model as seen by all inputs of the trace side by side.
#[track_caller]
pub fn all_inputs<'t, M: Traceable>(_model: &M, tracer: &'t Tracer) -> <M::Network as Interface>::Sites<'t> {
    tracer.sites::<M::Network>(Some(At::first(tracer.all_inputs(None))))
}

/// How runs of a model's kind go on if a program does not say.
pub fn default_settings<M: Traceable>(_model: &M) -> <M::Kind as ModelKind>::Settings {
    Default::default()
}

/// As [`all_inputs`].
#[deprecated(since = "0.2.0", note = "renamed to `all_inputs`")]
#[track_caller]
pub fn everything<'t, M: Traceable>(model: &M, tracer: &'t Tracer) -> <M::Network as Interface>::Sites<'t> {
    all_inputs(model, tracer)
}

/// The sites of a model as seen by new inputs whose runs go on.
#[track_caller]
pub fn generating<'t, M: Traceable<Kind = K>, K: Reads<I>, I>(
    _model: &M,
    tracer: &'t Tracer,
    input: I,
    settings: &<M::Kind as ModelKind>::Settings,
) -> Generating<'t, M::Network> {
    let rollout = settings.rollout();
    let steps = rollout.steps;
    Generating::new(tracer, tracer.invoke(K::inputs(input), Some(rollout)), steps)
}

/// The sites of a model as seen by all inputs of the trace, whose runs go on.
#[track_caller]
pub fn all_inputs_generating<'t, M: Traceable>(
    _model: &M,
    tracer: &'t Tracer,
    settings: &<M::Kind as ModelKind>::Settings,
) -> Generating<'t, M::Network> {
    let rollout = settings.rollout();
    let steps = rollout.steps;
    Generating::new(tracer, tracer.all_inputs(Some(rollout)), steps)
}

/// As [`all_inputs_generating`].
#[deprecated(since = "0.2.0", note = "renamed to `all_inputs_generating`")]
#[track_caller]
pub fn everything_generating<'t, M: Traceable>(
    model: &M,
    tracer: &'t Tracer,
    settings: &<M::Kind as ModelKind>::Settings,
) -> Generating<'t, M::Network> {
    all_inputs_generating(model, tracer, settings)
}

/// The sites of a model for every input that an edited view of it will see.
#[track_caller]
pub fn template<'t, M: Traceable>(_model: &M, tracer: &'t Tracer) -> <M::Network as Interface>::Sites<'t> {
    tracer.sites::<M::Network>(Some(At::first(tracer.all_inputs(None))))
}

/// Runs what was recorded, and gives back what the block ended with.
///
/// # Errors
/// What the graph or the model fails with.
#[track_caller]
pub fn run<'t, M: Traceable, T: Save<'t>>(model: &M, tracer: &'t Tracer, outcome: T) -> Result<T::Saved> {
    finish(model, tracer, outcome, Observer::default())
}

/// As [`run`], telling of everything that a step yields as soon as it does.
///
/// # Errors
/// As [`run`].
#[track_caller]
pub fn stream<'t, M, T>(model: &M, tracer: &'t Tracer, outcome: T, mut told: impl FnMut(<M::Kind as ModelKind>::Emitted)) -> Result<T::Saved>
where
    M: Traceable,
    T: Save<'t>,
{
    let mut told = |emitted: Emitted| told(emitted.into());
    finish(model, tracer, outcome, Observer { on_emitted: Some(&mut told), ..Observer::default() })
}

#[track_caller]
fn finish<'t, M: Traceable, T: Save<'t>>(model: &M, tracer: &'t Tracer, outcome: T, observer: Observer<'_>) -> Result<T::Saved> {
    let place = Some(Location::caller().into());
    let mut saves = Vec::new();
    let form = outcome.register(&mut saves);
    let expected = saves.len();
    let found = tracer.finish(saves).and_then(|graph| model.run(graph, observer)).and_then(|found| match found.len() == expected {
        true => Ok(found),
        false => Err(Error::WrongResults { expected, found: found.len(), source_line: None }),
    });
    found.and_then(|found| T::collect(form, &mut Results::new(found))).map_err(|error| error.or_at(place))
}

/// Gives what was recorded as data.
///
/// # Errors
/// What was wrong with the use of a site.
#[track_caller]
pub fn graph<'t, T: Save<'t>>(tracer: &'t Tracer, outcome: T) -> Result<Graph> {
    let mut saves = Vec::new();
    outcome.register(&mut saves);
    tracer.finish(saves)
}

/// Checks what was recorded without computing anything.
///
/// # Errors
/// What the graph fails with.
#[track_caller]
pub fn scan<'t, M: Traceable, T: Save<'t>>(model: &M, tracer: &'t Tracer, outcome: T) -> Result<Scan> {
    let place = Some(Location::caller().into());
    let saved = graph(tracer, outcome).and_then(|graph| model.scan(graph)).map_err(|error| error.or_at(place))?;
    Ok(Scan { saved })
}

/// A view of the model with what was recorded as an edit.
///
/// # Errors
/// What was wrong with the use of a site, and where something was recorded that has no place in an edit.
#[track_caller]
pub fn edit<'m, M: Traceable>(model: &'m M, tracer: &Tracer, (): ()) -> Result<Edited<'m, M>> {
    let place = Some(Location::caller().into());
    let edit = tracer.finish(Vec::new()).and_then(Edit::new).map_err(|error| error.or_at(place))?;
    Ok(Edited::new(model, edit))
}
