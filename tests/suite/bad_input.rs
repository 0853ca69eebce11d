//! Mistakes that only show when the program runs: each is refused before anything is computed, with names and the line.

use nnsight::graph::{At, Constant, ConstantId, InvokeId, Node, NodeId, Op, Region, SiteId, Source as Line, SourceId, Unary, Unused};
use nnsight::prelude::*;
use nnsight::trace::Traceable;

use crate::shared::{folder, tiny_llama};

/// The sentence that a failed trace or load gives.
fn sentence<T>(result: Result<T, impl std::fmt::Display>) -> String {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error.to_string(),
    }
}

fn says(sentence: &str, words: &[&str]) {
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
}

#[test]
fn prompts_that_cannot_be_run() {
    let model = tiny_llama();
    let run = |tokens: Vec<u32>| sentence(trace!(model, tokens, { model.lm_head.output }));
    says(&run(vec![]), &["prompt 0 of invoke 0 is empty"]);
    says(&run(vec![1; 65]), &["65 tokens", "`Dynamic` reads at most 64"]);
    says(&run(vec![1, 64]), &["token 64 of prompt 0", "0 to 63"]);
    says(&sentence(trace!(model, "text", { model.lm_head.output })), &["tokenizer", "token ids"]);
    says(&sentence(trace!(model, Vec::<String>::new(), { model.lm_head.output })), &["no prompt"]);
    says(&sentence(trace!(model, { model.lm_head.output })), &["`lm_head.output` is used outside of any prompt", "bad_input.rs"]);
}

#[test]
fn layers_that_do_not_exist() {
    let model = tiny_llama();
    for layer in [3i64, -4, i64::MAX] {
        let error = sentence(trace!(model, vec![1], { model.layers[layer].output }));
        says(&error, &["bad_input.rs", "`layers` has 3 layers", &layer.to_string()]);
    }
}

#[test]
fn positions_that_do_not_exist() {
    let model = tiny_llama();
    let error = sentence(trace!(model, vec![1, 2], { model.layers[0].output.at(Seq, 2) }));
    says(&error, &["bad_input.rs", "2 lies outside of the axis Seq = 2"]);
    let error = sentence(trace!(model, vec![1, 2], {
        model.layers[0].output.slice(Seq, 1..3) = 0.0;
        model.lm_head.output
    }));
    says(&error, &["1..3 lies outside of the axis Seq = 2"]);
}

#[test]
fn positions_of_prompts_of_different_lengths() {
    let model = tiny_llama();
    let prompts = vec![vec![1, 2, 3], vec![4]];
    says(&sentence(trace!(model, &prompts, { model.layers[0].output.at(Seq, 0) })), &["different lengths", "count from the end"]);
    says(&sentence(trace!(model, &prompts, { model.layers[0].output.mean(Seq) })), &["different lengths"]);
    says(&sentence(trace!(model, &prompts, { model.layers[0].output.sum_all() })), &["different lengths"]);
    assert_eq!(trace!(model, &prompts, { model.layers[0].output.at(Seq, -1) }).unwrap().dims(), [2, 32]);
}

#[test]
fn values_needed_before_they_exist() {
    let model = tiny_llama();
    let (early, late) = (0usize, 2usize);
    let error = sentence(trace!(model, vec![1, 2], {
        model.layers[early].mlp.output = model.layers[late].output;
        model.lm_head.output
    }));
    says(&error, &["bad_input.rs", "the value comes from `layers.2.output`, which runs after `layers.0.mlp.output`"]);
}

#[test]
fn a_circle_of_invokes() {
    // The macro's blocks come one after the other; only a graph that comes as data can go round.
    let model = tiny_llama();
    let mut graph = nnsight::graph!(model, {
        let one = invoke!(vec![1], { model.layers[2].output.at(Seq, -1) });
        let two = invoke!(vec![2], {
            model.layers[0].output.at(Seq, -1) = one;
            model.layers[2].output.at(Seq, -1)
        });
        (one, two)
    })
    .unwrap();
    let region = Region(vec![nnsight::graph::Step { axis: 1, start: -1, end: None, single: true }]);
    let site = graph.sites.iter().position(|site| site == "layers.0.output").unwrap() as u32;
    let two = graph.saves[1];
    graph.nodes.push(Node {
        op: Op::Set { at: At::first(InvokeId(0)), site: SiteId(site), region, unused: Unused::Refuse },
        args: vec![two],
        guards: vec![],
        source: SourceId(0),
    });
    let error = sentence(model.execute(graph));
    says(&error, &["[0, 1]", "circle", "`layers.0.output` of invoke 0 comes from `layers.2.output` of invoke 1"]);
}

#[test]
fn edits_without_effect() {
    let model = tiny_llama();
    // Nothing is read after it.
    let error = sentence(trace!(model, vec![1, 2], {
        model.layers[1].output = 0.0;
        model.layers[0].output
    }));
    says(&error, &["bad_input.rs", "`layers.1.output` has no effect", "nothing that is saved is read after it", "effect("]);
    // What is read after it does not depend on it.
    let error = sentence(trace!(model, vec![1, 2], {
        model.layers[0].self_attn.q_proj.output = 0.0;
        model.layers[0].self_attn.v
    }));
    says(&error, &["`layers.0.self_attn.v` does not depend on it"]);
    // It is replaced before anything reads it.
    let error = sentence(trace!(model, vec![1, 2], {
        model.layers[1].output.at(Seq, -1) = 0.0;
        model.layers[1].output.at(Seq, -1) = 1.0;
        model.lm_head.output
    }));
    says(&error, &["replaces it before anything reads it"]);
    // Everything that came from it is replaced.
    let error = sentence(trace!(model, vec![1, 2], {
        model.layers[0].mlp.output = 0.0;
        model.layers[1].output = 1.0;
        model.lm_head.output
    }));
    says(&error, &["`layers.0.mlp.output` has no effect"]);
    // No position depends on a later one, and after the last attention none on any other.
    let error = sentence(trace!(model, vec![1, 2, 3], {
        model.layers[2].output.at(Seq, 0) = 0.0;
        model.lm_head.output.at(Seq, -1)
    }));
    says(&error, &["it writes position 0, and of `lm_head.output` position 2 is read"]);
    let error = sentence(trace!(model, vec![1, 2, 3], {
        model.layers[0].output.slice(Seq, 1..) = 0.0;
        model.layers[1].output.at(Seq, 0)
    }));
    says(&error, &["it writes positions 1 to 2"]);
    assert!(
        trace!(model, vec![1, 2, 3], {
            model.layers[1].output.at(Seq, 0) = 0.0;
            model.lm_head.output.at(Seq, -1)
        })
        .is_ok()
    );
    // The other prompt is saved.
    let error = sentence(trace!(model, {
        invoke!(vec![1], { model.layers[0].output = 0.0 });
        invoke!(vec![2], { model.lm_head.output })
    }));
    says(&error, &["has no effect"]);
    // Wanted all the same.
    let kept = trace!(model, vec![1, 2], {
        effect(model.layers[1].output) = 0.0;
        effect(model.layers[2].output.at(Seq, -1)) *= 2.0;
        model.layers[0].output
    });
    assert!(kept.is_ok());
}

#[test]
fn constants_that_are_no_numbers() {
    let model = tiny_llama();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = sentence(trace!(model, vec![1], { model.layers[0].output * number }));
        says(&error, &["bad_input.rs", "a constant of the trace is", &number.to_string()]);
    }
    let tensor = nnsight::candle_core::Tensor::full(f32::NAN, 32, &Device::Cpu).unwrap();
    let tensor = Tensor::<Dynamic, (Hidden,)>::new(tensor).unwrap();
    says(&sentence(trace!(model, vec![1], { model.layers[0].output + &tensor })), &["NaN"]);
}

#[test]
fn sizes_that_do_not_fit() {
    let model = tiny_llama();
    let wide = Tensor::<Dynamic, (Hidden,)>::new(nnsight::candle_core::Tensor::zeros(31, DType::F32, &Device::Cpu).unwrap()).unwrap();
    let error = sentence(trace!(model, vec![1], { model.layers[0].output + &wide }));
    says(&error, &["bad_input.rs", "(Batch = 1, Seq = 1, Hidden = 32) and (Hidden = 31) do not broadcast: 32 entries of `Hidden`, 31 of `Hidden`"]);
    let error = sentence(trace!(model, {
        let three = invoke!(vec![1, 2, 3], { model.layers[0].output });
        invoke!(vec![1, 2], {
            model.layers[0].output = three;
            model.lm_head.output
        })
    }));
    says(&error, &["Seq = 3", "Seq = 2", "2 entries of `Seq`, 3 of `Seq`; take the same positions of both, with `.at(Seq, …)` or `.slice(Seq, …)`"]);
    let narrow = nnsight::candle_core::Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
    says(&sentence(Tensor::<SmolLm2_135M, (Hidden,)>::new(narrow.clone())), &["(Hidden = 576)", "[3, 4]"]);
    says(&sentence(Tensor::<Dynamic, (Batch, Hidden), Int>::new(narrow)), &["`Int`", "`f32`"]);
}

#[test]
fn values_of_another_trace() {
    let model = tiny_llama();
    let inner;
    let outer = trace!(model, vec![1], {
        let value = model.layers[0].output.value();
        inner = sentence(trace!(other = tiny_llama(), vec![2], { other.layers[0].output + value }));
        model.layers[5 - 3].output
    });
    says(&inner, &["bad_input.rs", "another trace"]);
    assert!(outer.is_ok());
}

fn graph() -> Graph {
    let model = tiny_llama();
    nnsight::graph!(model, vec![1, 2], {
        model.layers[0].output.at(Seq, -1) += 1.0;
        model.lm_head.output.softmax(Vocab)
    })
    .unwrap()
}

#[test]
fn graphs_that_are_none() {
    let node = |op, args: Vec<u32>| Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) };
    type Damage<'a> = (&'a str, Box<dyn Fn(&mut Graph)>);
    let damages: Vec<Damage<'_>> = vec![
        ("argument 99", Box::new(|graph| graph.nodes[1].args = vec![NodeId(99)])),
        ("stands after its use", Box::new(|graph| graph.nodes[1].args = vec![NodeId(1)])),
        ("site 7", Box::new(move |graph| graph.nodes.push(node(Op::Get { at: At::first(InvokeId(0)), site: SiteId(7) }, vec![])))),
        ("invoke 5", Box::new(move |graph| graph.nodes.push(node(Op::Get { at: At::first(InvokeId(5)), site: SiteId(0) }, vec![])))),
        ("constant 3", Box::new(move |graph| graph.nodes.push(node(Op::Constant(ConstantId(3)), vec![])))),
        ("saved value 1000", Box::new(|graph| graph.saves = vec![NodeId(1000)])),
        ("source 44", Box::new(|graph| graph.nodes[0].source = SourceId(44))),
        ("cannot take 0 arguments", Box::new(move |graph| graph.nodes.push(node(Op::Unary(Unary::Exp), vec![])))),
        (
            "an assignment has no value",
            Box::new(move |graph| {
                let set = graph.nodes.iter().position(|node| matches!(node.op, Op::Set { .. })).unwrap() as u32;
                graph.nodes.push(node(Op::Unary(Unary::Exp), vec![set]));
            }),
        ),
        ("no prompt", Box::new(|graph| graph.invokes[0].inputs.clear())),
    ];
    for (words, damage) in damages {
        let mut graph = graph();
        damage(&mut graph);
        says(&sentence(Graph::from_json(&graph.to_json().unwrap())), &[words]);
        says(&sentence(Graph::from_msgpack(&graph.to_msgpack().unwrap())), &[words]);
        says(&sentence(tiny_llama().execute(graph)), &[words]);
    }
}

#[test]
fn graphs_of_another_model_version_or_size() {
    let json = graph().to_json().unwrap();
    says(&sentence(Graph::from_json(&json.replace("\"version\":3", "\"version\":9"))), &["version 9", "reads version 3"]);
    says(&sentence(Graph::from_json("{}")), &["not a graph", "version"]);
    says(&sentence(Graph::from_json(&json[..json.len() / 2])), &["not a graph"]);
    says(&sentence(Graph::from_msgpack(&[0xc1, 0x00])), &["not a graph"]);
    let mut other = graph();
    other.signature = "Gpt2Small".into();
    says(&sentence(tiny_llama().execute(other)), &["`Gpt2Small`", "`Dynamic`"]);
    let mut misspelled = graph();
    misspelled.sites[0] = "layers.0.ouput".into();
    says(&sentence(tiny_llama().execute(misspelled)), &["no site `layers.0.ouput`; there is `layers.0.output`"]);
}

#[test]
fn a_graph_of_ten_million_nodes() {
    let node = r#"{"op":{"scalar":1.0},"source":0}"#;
    let mut json = String::from(r#"{"version":2,"graph":{"signature":"Dynamic","invokes":[],"sites":[],"constants":[],"saves":[],"#);
    json += r#""sources":[{"file":"a","line":1,"column":1}],"nodes":["#;
    json += &vec![node; 10_000_000].join(",");
    json += "]}}";
    let start = std::time::Instant::now();
    says(&sentence(Graph::from_json(&json)), &["more than 1000000 entries"]);
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn wrong_ranks_in_a_graph() {
    let model = tiny_llama();
    let source = vec![Line { file: "sent.rs".into(), line: 7, column: 1 }];
    let with = |nodes: Vec<Node>| Graph { sources: source.clone(), ..graph() }.with(nodes);
    let node = |op, args: Vec<u32>| Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) };
    let get = || node(Op::Get { at: At::first(InvokeId(0)), site: SiteId(0) }, vec![]);
    let cases = [
        vec![get(), node(Op::Softmax { axis: 3, log: false }, vec![0])],
        vec![get(), node(Op::MatMul, vec![0, 0])],
        vec![get(), node(Op::Permute { order: vec![0, 0, 1], names: vec!["a".into(), "b".into(), "c".into()] }, vec![0])],
        vec![get(), node(Op::Merge { axis: 2, name: "x".into() }, vec![0])],
        vec![get(), node(Op::Split { axis: 2, into: [("a".into(), Some(5)), ("b".into(), None)] }, vec![0])],
        vec![get(), node(Op::Split { axis: 2, into: [("a".into(), Some(0)), ("b".into(), None)] }, vec![0])],
        vec![get(), node(Op::TopK { k: 33, indices: true }, vec![0])],
        vec![get(), node(Op::Pick { axis: 2 }, vec![0, 0])],
        vec![get(), node(Op::Logic(nnsight::graph::Logic::Not), vec![0])],
        vec![get(), node(Op::Slice(Region(vec![nnsight::graph::Step { axis: 9, start: 0, end: None, single: true }])), vec![0])],
        vec![get(), node(Op::Slice(Region(vec![nnsight::graph::Step { axis: 0, start: i64::MIN, end: Some(i64::MAX), single: false }])), vec![0])],
    ];
    for nodes in cases {
        let graph = with(nodes);
        says(&sentence(model.execute(graph)), &["sent.rs:7:1"]);
    }
    let one_hot = |size| {
        let argmax = Op::Reduce { reduce: nnsight::graph::Reduce::ArgMax, axis: Some(2), keep: false };
        with(vec![get(), node(argmax, vec![0]), node(Op::OneHot { name: "x".into(), size }, vec![1])])
    };
    says(&sentence(model.execute(one_hot(usize::MAX))), &["entries in one value"]);
    says(&sentence(model.execute(one_hot(1 << 40))), &["entries in one value"]);
}

trait With {
    fn with(self, nodes: Vec<Node>) -> Graph;
}
impl With for Graph {
    /// The graph with these nodes instead of its own, the last one saved.
    fn with(mut self, nodes: Vec<Node>) -> Graph {
        self.saves = vec![NodeId(nodes.len() as u32 - 1)];
        self.nodes = nodes;
        self
    }
}

#[test]
fn constants_are_checked_when_they_are_read() {
    let constant = Constant { names: vec!["Hidden".into()], tensor: nnsight::candle_core::Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap() };
    let json = serde_json::to_string(&constant).unwrap();
    assert_eq!(serde_json::from_str::<Constant>(&json).unwrap(), constant);
    says(&sentence(serde_json::from_str::<Constant>(&json.replace("[2]", "[3]"))), &["shape [3]", "8 bytes"]);
    says(&sentence(serde_json::from_str::<Constant>(&json.replace("[2]", "[18446744073709551615, 2]"))), &["bytes"]);
    says(&sentence(serde_json::from_str::<Constant>(&json.replace("f32", "f7"))), &["unknown type `f7`"]);
}

#[test]
fn checkpoints_that_are_not_what_they_should_be() {
    let source = || Source::from(folder("tests/reference/llama"));
    says(&sentence(Llama::<SmolLm2_135M>::load(source())), &["not a `SmolLm2_135M`", "`hidden_size` is 32", "576"]);
    says(&sentence(Gpt2::<Dynamic>::load(source())), &["expected a `gpt2` checkpoint", "found `llama`"]);
    says(&sentence(Llama::<Dynamic>::load("no-such-model")), &["no model `no-such-model`", "smollm2-135m"]);
    says(&sentence(Llama::<Dynamic>::load("./no/such/folder")), &["./no/such/folder", "No such file"]);
}
