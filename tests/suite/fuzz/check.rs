//! Runs a graph planned and as it is written, and holds one result against the other.

use std::fmt::{Display, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use nnsight::candle_core::{DType, Device, Tensor as Candle};
use nnsight::graph::{Axis, Facts, Invoke, Op};
use nnsight::models::{Gpt2, Llama};
use nnsight::module::Role;
use nnsight::prelude::{Dynamic, Edited, Graph, Optimizations, Source};
use nnsight::run::Observer;
use nnsight::trace::Traceable;
use nnsight::types::{KindTag, Saved};

use super::perturb::perturbed;
use crate::attaching::sae;
use crate::shared::{folder, tiny_gpt2, tiny_llama};

type Results = nnsight::Result<Vec<nnsight::Result<Candle>>>;

/// A model that graphs are tried on.
pub struct Subject {
    pub name: &'static str,
    /// Path, kind and axes of each site.
    pub sites: Vec<(String, KindTag, Vec<Axis>)>,
    /// The modules that can be applied by hand.
    pub modules: Vec<String>,
    planned: Box<dyn Fn(Graph) -> Results + Send + Sync>,
    naive: Box<dyn Fn(Graph) -> Results + Send + Sync>,
    scan: Box<dyn Fn(Graph) -> nnsight::Result<Vec<Facts>> + Send + Sync>,
}

/// How a graph was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both ways of running it give the same.
    Same,
    /// Both refuse it, with a sentence.
    Refused,
}

/// What must not be.
#[derive(Debug)]
pub enum Fault {
    Panic(String),
    /// One way gives a result and the other none: what each says.
    OneOnly(String),
    /// A saved value differs by so much more than it may.
    Differs(usize, f64),
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Panic(message) => write!(f, "it panics: {message}"),
            Fault::OneOnly(what) => f.write_str(what),
            Fault::Differs(save, by) => write!(f, "saved value {save} differs by {by:e}"),
        }
    }
}

/// The models: a small Llama and a small GPT-2, and the first with a module attached and with an edit.
pub fn subjects() -> &'static [Subject] {
    static SUBJECTS: OnceLock<Vec<Subject>> = OnceLock::new();
    SUBJECTS.get_or_init(|| {
        fn leak<T>(value: T) -> &'static T {
            Box::leak(Box::new(value))
        }
        let llama = leak(Llama::<Dynamic>::load(Source::from(folder("tests/reference/llama"))).unwrap().with_optimizations(Optimizations::naive()));
        let gpt2 = leak(Gpt2::<Dynamic>::load(Source::from(folder("tests/reference/gpt2"))).unwrap().with_optimizations(Optimizations::naive()));
        let attach = |model: &'static Llama<Dynamic>| leak(model.attach("sae", Role::Splice("layers.1.output"), sae()).unwrap());
        let model = tiny_llama();
        let edits = nnsight::edit!(model, { model.layers[1].mlp.output *= 0.5 });
        let edit = |model: &'static Llama<Dynamic>| leak(Edited::with(model, edits.as_ref().unwrap().edits().clone()));
        vec![
            subject("llama", tiny_llama(), llama),
            subject("gpt2", tiny_gpt2(), gpt2),
            subject("attached", attach(tiny_llama()), attach(llama)),
            subject("edited", edit(tiny_llama()), edit(llama)),
        ]
    })
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied()).unwrap_or_default()
}

fn subject<M: Traceable + Send + Sync>(name: &'static str, planned: &'static M, naive: &'static M) -> Subject {
    let table = planned.table();
    Subject {
        name,
        sites: table.sites().iter().map(|site| (site.path.clone(), site.facts.kind, site.facts.axes.clone())).collect(),
        modules: table.modules().iter().filter(|module| module.pointwise.is_some()).map(|module| module.path.clone()).collect(),
        planned: Box::new(|graph| Ok(planned.run(graph, Observer::default())?.into_iter().map(entries).collect())),
        naive: Box::new(|graph| Ok(naive.run(graph, Observer::default())?.into_iter().map(entries).collect())),
        scan: Box::new(|graph| Ok(planned.scan(graph)?)),
    }
}

/// A saved value's entries, padding included: what is computed of it has to be the same as well.
fn entries(saved: nnsight::Result<Saved, nnsight::TraceError>) -> nnsight::Result<Candle> {
    Ok(saved?.padded().clone())
}

impl Subject {
    /// What is known of the values that a graph saves.
    pub fn scan(&self, graph: &Graph) -> Option<Vec<Facts>> {
        (self.scan)(graph.clone()).ok()
    }

    /// Tries a graph.
    pub fn check(&self, graph: &Graph) -> Result<Outcome, Fault> {
        if !is_small(graph) {
            return Ok(Outcome::Refused);
        }
        let (naive, planned) = match (attempt(&self.naive, graph)?, attempt(&self.planned, graph)?) {
            (Ok(naive), Ok(planned)) => (naive, planned),
            (Err(_), Err(_)) => return Ok(Outcome::Refused),
            (Ok(_), Err(error)) => return Err(Fault::OneOnly(format!("planned it fails: {error}"))),
            (Err(error), Ok(_)) => return Err(Fault::OneOnly(format!("as it is written it fails: {error}"))),
        };
        if naive.len() != planned.len() {
            return Err(Fault::OneOnly(format!("{} values, and {} planned", naive.len(), planned.len())));
        }
        let mut noise: Option<Vec<Option<Candle>>> = None;
        for (save, (naive_value, planned_value)) in naive.iter().zip(&planned).enumerate() {
            let (a, b) = match (naive_value, planned_value) {
                (Ok(a), Ok(b)) => (a, b),
                (Err(_), Err(_)) => continue,
                (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
                    return Err(Fault::OneOnly(format!("saved value {save} is there one way only: {error}")));
                }
            };
            if a.dims() != b.dims() || a.dtype() != b.dtype() {
                return Err(Fault::OneOnly(format!(
                    "saved value {save} is {:?} {:?}, and {:?} {:?} planned",
                    a.dims(),
                    a.dtype(),
                    b.dims(),
                    b.dtype()
                )));
            }
            let by = distance(a, b);
            if by <= 1e-4 {
                continue;
            }
            // How much of it comes from the last bits of what the model holds.
            let noise = noise.get_or_insert_with(|| match perturbed(graph, self).map(|graph| attempt(&self.naive, &graph)) {
                Some(Ok(Ok(values))) => values.into_iter().map(Result::ok).collect(),
                _ => Vec::new(),
            });
            let allowed = noise.get(save).and_then(Option::as_ref).filter(|c| c.dims() == a.dims()).map_or(1e-5, |c| distance(a, c));
            if by > 1e-4 + 100.0 * allowed {
                return Err(Fault::Differs(save, by));
            }
        }
        Ok(Outcome::Same)
    }
}

/// Runs a graph. A panic is a fault.
fn attempt(run: &(dyn Fn(Graph) -> Results + Send + Sync), graph: &Graph) -> Result<Results, Fault> {
    catch_unwind(AssertUnwindSafe(|| run(graph.clone()))).map_err(|payload| Fault::Panic(message(&*payload).to_string()))
}

/// The largest difference of two tensors, relative to their size; infinite if one has a number where the other has none.
fn distance(a: &Candle, b: &Candle) -> f64 {
    let numbers = |x: &Candle| x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (Ok(a), Ok(b)) = (numbers(a), numbers(b)) else { return f64::INFINITY };
    let scale = a.iter().chain(&b).copied().filter(|x| x.is_finite()).fold(1.0, |scale: f64, x| scale.max(x.abs()));
    let apart = |(&a, &b): (&f64, &f64)| match a == b || a.is_nan() && b.is_nan() {
        true => 0.0,
        false if a.is_finite() && b.is_finite() => (a - b).abs() / scale,
        false => f64::INFINITY,
    };
    a.iter().zip(&b).map(apart).fold(0.0, f64::max)
}

/// Whether a graph asks for so little that a million of them can be run.
fn is_small(graph: &Graph) -> bool {
    let few_prompts = |invoke: &Invoke| invoke.inputs.len() <= 16 && invoke.steps() <= 8;
    graph.nodes.len() <= 400
        && graph.invokes.len() <= 16
        && graph.invokes.iter().all(few_prompts)
        && graph.nodes.iter().all(|node| is_small_op(&node.op) && node.args.len() <= 100)
}

fn is_small_op(op: &Op) -> bool {
    match op {
        Op::OneHot { size, .. } => *size <= 1000,
        Op::Loop(body) => body.limit <= 100_000 && body.nodes.len() <= 100 && body.nodes.iter().all(|node| is_small_op(&node.op)),
        _ => true,
    }
}
