//! Keeping what many modules were given or gave.

use std::collections::{BTreeMap, HashMap};
use std::panic::Location;
use std::path::Path;

use candle_core::DType;

use super::{Interface, ModuleHandle, Results, Save, Site, Traceable, Tracer};
use crate::graph::{At, KindTag, NodeId, Op};
use crate::types::{Kind, Saved, Shape, Signature, Tensor};
use crate::{Error, Result};

/// Which modules a cache keeps, and what of them.
///
/// # Examples
/// ```
/// use nnsight_core::trace::Keep;
/// let attention = Keep::outputs().of(["layers.*.self_attn"]).dtype(candle_core::DType::F16);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Keep {
    inputs: bool,
    outputs: bool,
    patterns: Vec<String>,
    dtype: Option<DType>,
    host: bool,
}

impl Keep {
    /// What modules give.
    pub fn outputs() -> Self {
        Keep { outputs: true, ..Keep::default() }
    }

    /// What modules are given.
    pub fn inputs() -> Self {
        Keep { inputs: true, ..Keep::default() }
    }

    /// What modules are given, and what they give.
    pub fn both() -> Self {
        Keep { inputs: true, outputs: true, ..Keep::default() }
    }

    /// Only modules whose paths match one of these; `*` stands for one name between dots, `**` for any number.
    #[must_use]
    pub fn of<P: Into<String>>(mut self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.patterns.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// In another type.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// In the CPU's memory, wherever the model computes.
    #[must_use]
    pub fn on_host(mut self) -> Self {
        self.host = true;
        self
    }

    fn keeps(&self, path: &str) -> bool {
        let parts = path.split('.').collect::<Vec<_>>();
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches(&pattern.split('.').collect::<Vec<_>>(), &parts))
    }
}

/// Whether a pattern matches a path, both in parts.
fn matches(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| matches(rest, &path[skipped..])),
        ([first, rest @ ..], [part, path @ ..]) => (*first == "*" || first == part) && matches(rest, path),
        _ => false,
    }
}

/// What a trace keeps for a [`Cache`]: one of the values that a block may end with.
#[derive(Debug)]
pub struct Caching(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    path: String,
    node: NodeId,
}

impl Caching {
    #[track_caller]
    pub(crate) fn new(tracer: &Tracer, passes: &[At], within: &str, keep: &Keep) -> Self {
        let table = tracer.table();
        let inside = |path: &str| within.is_empty() || path == within || path.strip_prefix(within).is_some_and(|rest| rest.starts_with('.'));
        let modules = table.modules().iter().filter(|module| inside(&module.path) && keep.keeps(&module.path));
        let mut entries = Vec::new();
        for module in modules {
            for (wanted, end) in [(keep.inputs, "input"), (keep.outputs, "output")] {
                let path = format!("{}.{end}", module.path);
                let Some(site) = table.position(&path).filter(|_| wanted) else { continue };
                for &at in passes {
                    entries.push(Entry { path: path.clone(), node: record(tracer, at, site, keep) });
                }
            }
        }
        if entries.is_empty() {
            tracer.fail(|source_line| Error::Mismatch {
                op: "cache".into(),
                problem: format!("no module matches {}", keep.patterns.join(", ")),
                source_line,
            });
        }
        Caching(entries)
    }
}

#[track_caller]
fn record(tracer: &Tracer, at: At, site: usize, keep: &Keep) -> NodeId {
    let node = tracer.get(Some(at), site);
    let float = tracer.table().sites()[site].facts.kind == KindTag::Float;
    match (keep.dtype.filter(|_| float), keep.host) {
        (None, false) => node,
        (dtype, host) => tracer.push(Op::Store { dtype: dtype.map(|dtype| dtype.as_str().to_string()), host }, &[node]),
    }
}

impl<C: Signature> ModuleHandle<'_, C> {
    /// Keeps what this module and those inside of it are given and give.
    #[track_caller]
    pub fn cache(&self, keep: &Keep) -> Caching {
        match self.at() {
            Some(at) => Caching::new(self.tracer(), &[at], self.path(), keep),
            None => {
                self.tracer().fail(|source_line| Error::OutsideInvoke { site: self.path().to_string(), source_line });
                Caching(Vec::new())
            }
        }
    }
}

impl<'t> Save<'t> for Caching {
    type Saved = Cache;
    type Form = Vec<String>;
    fn register(self, saves: &mut Vec<NodeId>) -> Vec<String> {
        let (nodes, paths): (Vec<_>, Vec<_>) = self.0.into_iter().map(|entry| (entry.node, entry.path)).unzip();
        saves.extend(nodes);
        paths
    }
    fn collect(form: Vec<String>, results: &mut Results) -> Result<Cache> {
        let found = form.into_iter().map(|path| (path, results.next())).collect::<Vec<_>>();
        let mut entries = BTreeMap::<String, Vec<Saved>>::new();
        for (path, tensor) in found {
            match tensor {
                Ok(tensor) => entries.entry(path).or_default().push(tensor),
                Err(Error::StepNotReached { named: false, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Cache { entries })
    }
}

/// The sites of a model, to name one of them.
pub struct View<'t, M: Interface>(M::Sites<'t>);

impl<'t, M: Interface> std::ops::Deref for View<'t, M> {
    type Target = M::Sites<'t>;
    fn deref(&self) -> &M::Sites<'t> {
        &self.0
    }
}

/// What modules were given and gave, by the paths of the sites, for each step that there was.
#[derive(Clone, Debug)]
pub struct Cache {
    entries: BTreeMap<String, Vec<Saved>>,
}

impl Cache {
    /// What a site held at the first step.
    ///
    /// # Errors
    /// [`Error::NotCached`] where it was not kept.
    #[track_caller]
    pub fn get(&self, path: &str) -> Result<&Saved> {
        Ok(&self.steps(path)?[0])
    }

    /// What a site held at each step.
    ///
    /// # Errors
    /// As [`Cache::get`].
    #[track_caller]
    pub fn steps(&self, path: &str) -> Result<&[Saved]> {
        let place = Location::caller();
        let missing = || {
            let suggestion = crate::error::did_you_mean(crate::error::closest(self.entries.keys(), path));
            Error::NotCached { path: crate::error::shortened(path), suggestion, source_line: Some(place.into()) }
        };
        self.entries.get(path).or_else(|| self.entries.get(path.strip_prefix("model.")?)).map(Vec::as_slice).ok_or_else(missing)
    }

    /// What a site held at the first step, by the name of its field: `cache.field(&model, |model| model.layers[3].mlp.output)`.
    ///
    /// # Errors
    /// As [`Cache::get`].
    #[track_caller]
    pub fn field<M: Traceable, S: Shape, K: Kind>(
        &self,
        model: &M,
        field: impl for<'t> FnOnce(View<'t, M::Network>) -> Site<'t, <M::Network as Interface>::Signature, S, K>,
    ) -> Result<Tensor<<M::Network as Interface>::Signature, S, K>> {
        let tracer = super::tracer(model);
        let path = field(View(tracer.sites::<M::Network>(None))).path();
        tracer.finish(Vec::new())?;
        Ok(Tensor::of(self.get(&path)?.clone()))
    }

    /// The paths and what was kept for each step.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Saved])> {
        self.entries.iter().map(|(path, steps)| (path.as_str(), steps.as_slice()))
    }

    /// How many sites were kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes it as a safetensors file: a tensor for each site, or `path.step` where there are several steps. If prompts differ in length, it is
    /// `path.row` or `path.step.row` for each of them, without padding.
    ///
    /// # Errors
    /// Where the file cannot be written.
    #[track_caller]
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut tensors = HashMap::new();
        for (site, steps) in self.iter() {
            for (step, saved) in steps.iter().enumerate() {
                let name = if steps.len() == 1 { site.to_string() } else { format!("{site}.{step}") };
                match saved.own_rows()? {
                    None => drop(tensors.insert(name, saved.padded().clone())),
                    Some(rows) => tensors.extend(rows.into_iter().map(|(row, tensor)| (format!("{name}.{row}"), tensor))),
                }
            }
        }
        let place = Some(Location::caller().into());
        candle_core::safetensors::save(&tensors, path).map_err(|problem| Error::from(problem).or_at(place))
    }
}
