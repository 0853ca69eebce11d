//! What the mutations begin with: what users write, in every form.

use nnsight::trace::Settings as _;
use std::sync::{Arc, OnceLock};

use nnsight::candle_core::{self, Tensor as Candle};
use nnsight::graph::{Facts, Operation, register};
use nnsight::prelude::*;

use super::check::Subject;
use crate::attaching::{Features, sae};
use crate::shared::{folder, tiny_gpt2, tiny_llama};

pub struct Seed {
    /// Whether it is one that users write, and not one that failed.
    pub runs: bool,
    pub graph: Graph,
    pub json: String,
    pub msgpack: Vec<u8>,
}

/// A named operation: half of what it is given.
struct Half;

impl Operation for Half {
    fn name(&self) -> &str {
        "fuzz.half"
    }
    fn facts(&self, args: &[Facts], _parameters: &[f64]) -> Result<Facts, String> {
        args.first().cloned().ok_or_else(|| "it takes one value".to_string())
    }
    fn compute(&self, args: &[Candle], _parameters: &[f64]) -> candle_core::Result<Candle> {
        &args[0] * 0.5
    }
}

/// The seeds, each with the model that it is for.
pub fn seeds(subjects: &[Subject]) -> &'static [(usize, Seed)] {
    static SEEDS: OnceLock<Vec<(usize, Seed)>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        register(Arc::new(Half));
        let graphs =
            written().into_iter().map(|(name, graph)| (name, true, graph)).chain(stored().into_iter().map(|(name, graph)| (name, false, graph)));
        let seed = |(name, runs, graph): (&str, bool, Graph)| {
            let subject = subjects.iter().position(|subject| subject.name == name)?;
            Some((subject, Seed { runs, json: graph.to_json().ok()?, msgpack: graph.to_msgpack().ok()?, graph }))
        };
        graphs.filter_map(seed).collect()
    })
}

/// The graphs that have failed before.
fn stored() -> Vec<(&'static str, Graph)> {
    let files = std::fs::read_dir(folder("tests/hostile")).expect("the graphs are in the repository").flatten();
    let mut paths = files.map(|file| file.path()).collect::<Vec<_>>();
    paths.sort();
    paths.iter().filter_map(|path| Some(("llama", Graph::from_msgpack(&std::fs::read(path).ok()?).ok()?))).collect()
}

const A: [u32; 5] = [3, 17, 5, 40, 22];
const B: [u32; 5] = [3, 17, 9, 40, 22];

fn written() -> Vec<(&'static str, Graph)> {
    let model = tiny_llama();
    let gpt2 = tiny_gpt2();
    let attached = model.attach("sae", nnsight::module::Role::Splice("layers.1.output"), sae()).unwrap();
    let mut all = vec![
        ("llama", nnsight::graph!(model, A.to_vec(), { model.lm_head.output.softmax(Vocab) })),
        (
            "llama",
            nnsight::graph!(model, A.to_vec(), {
                let h = model.layers[0].output;
                let lens = (0..3).map(|layer| model.lm_head(model.norm(model.layers[layer].output)).topk(Vocab, 2)).collect::<Vec<_>>();
                (lens, model.norm(model.norm(h)), model.layers[1].mlp.act)
            }),
        ),
        (
            "llama",
            nnsight::graph!(model, {
                let clean = invoke!(A.to_vec(), { model.layers[1].output.at(Seq, -1) });
                invoke!(B.to_vec(), {
                    model.layers[1].output.at(Seq, -1) = clean;
                    (model.lm_head.output.at(Seq, -1), model.layers[2].self_attn.pattern)
                })
            }),
        ),
        (
            "llama",
            nnsight::graph!(model, A.to_vec(), {
                let h = model.layers[1].output;
                if h.mean_all().gt(0.0) {
                    model.layers[2].mlp.output *= 2.0;
                }
                let halved = while_loop(h, |h| h.norm_all().gt(0.5), |h| h * 0.5);
                (halved, model.lm_head.output.cumsum(Seq))
            }),
        ),
        (
            "llama",
            nnsight::graph!(model, A.to_vec(), {
                let h = model.layers[0].output.value();
                let loss = model.lm_head.output.at(Seq, -1).sum_all();
                (h.grad(loss), fold(h, Seq, h.at(Seq, 0), |mean, row| mean * 0.5 + row * 0.5))
            }),
        ),
        (
            "llama",
            nnsight::graph!(model, A.to_vec(), {
                model.layers[1].mlp.skip(model.layers[1].mlp.input);
                model.cache(&Keep::both().of(["layers.*.self_attn"]).dtype(DType::F16))
            }),
        ),
        (
            "llama",
            nnsight::graph!(
                model,
                A.to_vec(),
                for (layer, position) in (0..3usize).flat_map(|layer| (0..3usize).map(move |position| (layer, position))) {
                    model.layers[layer].output.at(Seq, position) *= 0.5;
                    model.lm_head.output.at(Seq, -1).max(Vocab)
                }
            ),
        ),
        (
            "gpt2",
            nnsight::graph!(gpt2, A.to_vec(), {
                gpt2.transformer.h[1].attn.output.at(Seq, 1) = 0.0;
                gpt2.lm_head.output.log_softmax(Vocab)
            }),
        ),
        (
            "attached",
            nnsight::graph!(attached, A.to_vec(), {
                attached.attached.features.at(Features, 3) = 0.0;
                (attached.lm_head.output, attached.layers[2].input)
            }),
        ),
        ("edited", nnsight::graph!(model, B.to_vec(), { (model.layers[1].mlp.output, model.lm_head.output) })),
    ];
    all.extend(named(model));
    all.into_iter().map(|(name, graph)| (name, graph.expect("a seed is a graph"))).collect()
}

/// A session with a generation, as the graph that it is; and a graph with a named operation.
fn named(model: &'static Llama<Dynamic>) -> Vec<(&'static str, nnsight::Result<Graph, nnsight::TraceError>)> {
    use nnsight::graph::{At, Invoke, InvokeId, Node, NodeId, Op, SiteId, SourceId};
    let plain = nnsight::graph!(model, A.to_vec(), { model.layers[1].output });
    let Ok(plain) = plain else { return Vec::new() };
    let node = |op, args: Vec<u32>| Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) };
    let half = Op::Custom { operation: "fuzz.half".into(), parameters: vec![], names: ["Batch", "Seq", "Hidden"].map(Into::into).to_vec() };
    let mut with_operation = plain.clone();
    with_operation.nodes.push(node(half, vec![0]));
    with_operation.saves.push(NodeId(with_operation.nodes.len() as u32 - 1));
    let mut session = plain;
    let generation = Generation::default().max_new_tokens(3);
    session.invokes.push(Invoke {
        inputs: vec![Prompt::Tokens(B.to_vec()).into()],
        all_inputs: false,
        rollout: Some(generation.rollout()),
        source: None,
    });
    let at = |step| At { step, ..At::first(InvokeId(1)) };
    session.nodes.push(node(Op::Set { at: at(0), site: SiteId(0), region: Default::default(), unused: Default::default() }, vec![0]));
    session.nodes.push(node(Op::Get { at: at(2), site: SiteId(0) }, vec![]));
    session.nodes.push(node(Op::Output { invoke: InvokeId(1) }, vec![]));
    session.saves.extend([NodeId(2), NodeId(3)]);
    vec![("llama", Ok(with_operation)), ("llama", Ok(session))]
}
