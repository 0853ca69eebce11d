//! Graphs that ask for more than they may: refused before anything is computed, with the line, the number and the limit.

use nnsight::trace::Settings as _;
use std::time::{Duration, Instant};

use nnsight::candle_core::Tensor as Candle;
use nnsight::graph::{
    At, Body, Constant, ConstantId, Invoke, InvokeId, Limits, Node, NodeId, Op, Reduce, Region, SiteId, Source as Line, SourceId, Step as Part,
    Unary, Unused,
};
use nnsight::prelude::*;
use nnsight::trace::Traceable;
use nnsight::types::Saved;

use crate::shared::{folder, identical, numbers, tiny_llama};

const TOKENS: [u32; 4] = [3, 17, 5, 40];

fn node(op: Op, args: &[u32]) -> Node {
    Node { op, args: args.iter().copied().map(NodeId).collect(), guards: vec![], source: SourceId(0) }
}

fn scalar(number: f64) -> Node {
    node(Op::Scalar(number), &[])
}

/// Node 0 is the residual stream after the first layer, of shape `(1, 4, 32)`; the last of the others is saved.
fn graph(others: Vec<Node>) -> Graph {
    let get = node(Op::Get { at: At::first(InvokeId(0)), site: SiteId(0) }, &[]);
    let nodes = std::iter::once(get).chain(others).collect::<Vec<_>>();
    Graph {
        signature: "Dynamic".into(),
        invokes: vec![Invoke { inputs: vec![Prompt::Tokens(TOKENS.to_vec()).into()], ..Invoke::default() }],
        sites: vec!["layers.0.output".into()],
        saves: vec![NodeId(nodes.len() as u32 - 1)],
        nodes,
        sources: vec![Line { file: "sent.rs".into(), line: 7, column: 1 }],
        ..Graph::default()
    }
}

/// A model whose owner is careful.
fn strict() -> Llama<Dynamic> {
    let limits = Limits { bytes: 1 << 26, work: 1 << 28, rounds: 10_000, token_layers: 10_000, nodes: 10_000, ..Limits::default() };
    Llama::load(Source::from(folder("tests/reference/llama"))).unwrap().with_limits(limits)
}

fn says(result: Result<impl Sized, impl std::fmt::Display>, words: &[&str]) {
    let error = result.map(drop).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

/// Runs it, and asserts that it is refused at once.
fn refused(model: &impl Traceable, graph: Graph, words: &[&str]) {
    let start = Instant::now();
    says(model.execute(graph), words);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

fn argmax() -> Op {
    Op::Reduce { reduce: Reduce::ArgMax, axis: Some(2), keep: false }
}

fn one_hot(size: usize) -> Op {
    Op::OneHot { name: "Many".into(), size }
}

#[test]
fn one_node_that_fills_the_memory() {
    let model = strict();
    let one = |size| graph(vec![node(argmax(), &[0]), node(one_hot(size), &[1])]);
    refused(&model, one(170_000_000), &["sent.rs:7:1: with `one_hot` there are", "bytes in use at one time; at most 67108864 are allowed"]);
    refused(tiny_llama(), one(usize::MAX), &["sent.rs:7:1", "entries in one value"]);
    // What fits runs as before.
    let found = model.execute(one(64)).unwrap();
    assert_eq!((found[0].dims(), numbers(&found[0]).iter().sum::<f64>()), ([1, 4, 64].as_slice(), 4.0));
}

#[test]
fn a_running_sum_takes_no_square() {
    // 40 GB, if a matrix of 200,000 rows and columns came into being.
    let long = |size| {
        let nodes = vec![
            node(argmax(), &[0]),
            node(Op::Slice(Region(vec![Part { axis: 1, start: 0, end: None, single: true }])), &[1]),
            node(one_hot(size), &[2]),
            node(Op::CumSum { axis: 1 }, &[3]),
            node(Op::Reduce { reduce: Reduce::Sum, axis: Some(1), keep: false }, &[4]),
        ];
        let mut graph = graph(nodes);
        graph.saves.push(NodeId(2));
        graph
    };
    let found = tiny_llama().execute(long(200_000)).unwrap();
    // From the entry that is one, every sum is one.
    assert_eq!(numbers(&found[0])[0], 200_000.0 - numbers(&found[1])[0]);
    refused(&strict(), long(20_000_000), &["`one_hot`", "bytes in use at one time"]);
}

#[test]
fn a_broadcast_that_fills_the_memory() {
    // Two vectors, one lying and one standing.
    let column = |id: u32| node(Op::Split { axis: 0, into: [("Tall".into(), None), ("One".into(), Some(1))] }, &[id]);
    let mut graph = graph(vec![node(Op::Constant(ConstantId(0)), &[]), column(1), node(Op::Binary(nnsight::graph::Binary::Add), &[2, 1])]);
    let tensor = Candle::zeros(40_000, DType::F32, &Device::Cpu).unwrap();
    graph.constants = vec![Constant { names: vec!["Wide".into()], tensor }];
    refused(&strict(), graph, &["sent.rs:7:1: with `add` there are", "bytes in use at one time"]);
}

#[test]
fn values_are_counted_for_as_long_as_they_live() {
    // A hundred values of 4 MB, of which one is needed at a time.
    let million = |count: u32, kept: bool| {
        let mut nodes = vec![node(argmax(), &[0]), node(one_hot(250_000), &[1])];
        nodes.extend((2..2 + count).map(|last| node(Op::Unary(Unary::Tanh), &[last])));
        let mut graph = graph(nodes);
        if kept {
            graph.saves = (2..3 + count).map(NodeId).collect();
        }
        graph
    };
    let model = strict();
    assert_eq!(model.execute(million(40, false)).unwrap()[0].elem_count(), 1_000_000);
    refused(&model, million(40, true), &["`tanh`", "bytes in use at one time"]);
}

#[test]
fn a_part_of_a_value_holds_all_of_it() {
    let mut nodes = vec![node(argmax(), &[0])];
    let first = |axis| Part { axis, start: 0, end: None, single: true };
    let mut saves = Vec::new();
    for index in 0..40u32 {
        nodes.push(node(one_hot(250_000 + index as usize), &[1]));
        nodes.push(node(Op::Slice(Region(vec![first(0), first(1), first(2)])), &[2 + 2 * index]));
        saves.push(NodeId(3 + 2 * index));
    }
    let graph = Graph { saves, ..graph(nodes) };
    refused(&strict(), graph, &["bytes in use at one time"]);
}

#[test]
fn constants_count_and_their_strides_do_not_overflow() {
    let mut large = graph(vec![node(Op::Constant(ConstantId(0)), &[])]);
    large.constants = vec![Constant { names: vec!["Many".into()], tensor: Candle::zeros(20_000_000, DType::F32, &Device::Cpu).unwrap() }];
    refused(&strict(), large, &["bytes"]);
    let json = |shape: &str| format!(r#"{{"names":["A","B","C"],"dtype":"f32","shape":{shape},"data":""}}"#);
    assert!(serde_json::from_str::<Constant>(&json("[0,2,3]")).is_ok());
    says(serde_json::from_str::<Constant>(&json("[0,1099511627776,1099511627776]")), &["bytes"]);
    says(serde_json::from_str::<Constant>(&json("[1099511627776,1099511627776,0]")), &["bytes"]);
}

#[test]
fn a_name_of_a_megabyte() {
    let name = "x".repeat(1 << 20);
    let rename = |name: &str| graph(vec![node(Op::Rename { axis: 0, name: name.into() }, &[0]), node(Op::Unary(Unary::Exp), &[1])]);
    let words = ["1048576 bytes in one name; at most 4096 are allowed"];
    refused(tiny_llama(), rename(&name), &words);
    says(Graph::from_json(&rename(&name).to_json().unwrap()), &words);
    let stack = graph(vec![node(Op::Stack { name: name.clone() }, &[0])]);
    refused(tiny_llama(), stack, &words);
    refused(tiny_llama(), graph(vec![node(one_hot(2), &[0]), node(Op::Log { label: name.clone() }, &[0])]), &words);
    refused(tiny_llama(), Graph { sites: vec![name.clone()], ..graph(vec![]) }, &words);
    refused(tiny_llama(), Graph { signature: name.clone(), ..graph(vec![]) }, &words);
    refused(tiny_llama(), Graph { sources: vec![Line { file: name.into(), line: 1, column: 1 }], ..graph(vec![]) }, &words);
    // Many names that are short enough by themselves.
    let mut many = graph(vec![node(Op::Rename { axis: 0, name: "x".repeat(4096) }, &[0])]);
    many.nodes.extend((1..9_000).map(|last| node(Op::Unary(Unary::Tanh), &[last])));
    let model = Llama::<Dynamic>::load(Source::from(folder("tests/reference/llama"))).unwrap();
    let model = model.with_limits(Limits { bytes: 1 << 24, ..Limits::default() });
    refused(&model, many, &["bytes of axes' names"]);
}

#[test]
fn eight_thousand_blocks_on_all_prompts() {
    let mut many = graph(vec![]);
    many.invokes.extend((0..8000).map(|_| Invoke { all_inputs: true, ..Invoke::default() }));
    many.nodes = (0..8001).map(|invoke| node(Op::Get { at: At::first(InvokeId(invoke)), site: SiteId(0) }, &[])).collect();
    many.saves = (0..8001).map(NodeId).collect();
    refused(tiny_llama(), many, &["inputs, counted for every block that sees them; at most 1048576"]);
    // A few are nothing.
    let mut few = graph(vec![]);
    few.invokes.extend((0..8).map(|_| Invoke { all_inputs: true, ..Invoke::default() }));
    few.nodes = (0..9).map(|invoke| node(Op::Get { at: At::first(InvokeId(invoke)), site: SiteId(0) }, &[])).collect();
    few.saves = (0..9).map(NodeId).collect();
    let found = tiny_llama().execute(few).unwrap();
    assert!(found.iter().all(|one| identical(one, &found[0])));
}

/// Loops inside of each other, each over all rows of node `rows`; node 2 is what the outermost begins with.
fn fold(rows: u32, deep: usize) -> Vec<Node> {
    vec![node(Op::Loop(Box::new(over(deep))), &[2, rows, rows]), node(Op::Item { index: 0 }, &[3])]
}

/// The body of a loop over rows: carried, the row, and all rows again.
fn over(deep: usize) -> Body {
    let nodes = match deep {
        0 => vec![node(Op::Unary(Unary::Tanh), &[0])],
        deep => vec![node(Op::Loop(Box::new(over(deep - 1))), &[0, 2, 2]), node(Op::Item { index: 0 }, &[3])],
    };
    let yields = vec![NodeId(2 + nodes.len() as u32)];
    Body { loop_carried: 1, over: Some(0), captured: 1, nodes, condition: None, yields, limit: 100_000 }
}

#[test]
fn five_loops_inside_of_each_other() {
    // 64 to the power of 5 rounds.
    let rows = |size: usize, deep| {
        let mut graph = graph(vec![node(Op::Constant(ConstantId(0)), &[]), scalar(1.0)].into_iter().chain(fold(1, deep)).collect());
        graph.constants = vec![Constant { names: vec!["Row".into()], tensor: Candle::zeros(size, DType::F32, &Device::Cpu).unwrap() }];
        graph
    };
    refused(tiny_llama(), rows(64, 4), &["sent.rs:7:1: with `loop` there are", "rounds of loops; at most 10000000"]);
    refused(&strict(), rows(25, 2), &["rounds of loops; at most 10000"]);
    // tanh, as often as there are rounds.
    let found = strict().execute(rows(5, 2)).unwrap();
    let expected = (0..125).fold(1f32, |x, _| x.tanh());
    assert!((numbers(&found[0])[0] - f64::from(expected)).abs() < 1e-5);
}

#[test]
fn a_loop_of_four_billion_rounds() {
    let endless = |limit| {
        // The sum of the carried value is equal to itself for ever.
        let reduced = node(Op::Reduce { reduce: Reduce::Sum, axis: None, keep: false }, &[0]);
        let condition = node(Op::Compare(nnsight::graph::Compare::Le), &[1, 1]);
        let body = Body {
            loop_carried: 1,
            over: None,
            captured: 0,
            nodes: vec![reduced, condition, node(Op::Unary(Unary::Tanh), &[0])],
            condition: Some(NodeId(2)),
            yields: vec![NodeId(3)],
            limit,
        };
        graph(vec![node(Op::Loop(Box::new(body)), &[0]), node(Op::Item { index: 0 }, &[1])])
    };
    let words = ["4294967295 rounds of a loop; at most 10000000 are allowed"];
    refused(tiny_llama(), endless(u32::MAX), &words);
    says(Graph::from_msgpack(&endless(u32::MAX).to_msgpack().unwrap()), &words);
    // One that nobody could count before is ended once it has had its rounds.
    refused(&strict(), endless(10_000), &["sent.rs:7:1", "10001 rounds of loops; at most 10000 are allowed"]);
    refused(&strict(), endless(100), &["loop exceeded 100 iterations"]);
    // Numbers in a loop are finite, as everywhere.
    let mut infinite = endless(10);
    let Op::Loop(body) = &mut infinite.nodes[1].op else { panic!("it is the loop") };
    body.nodes[2].op = Op::Full(f64::INFINITY);
    refused(tiny_llama(), infinite, &["sent.rs:7:1", "inf"]);
}

#[test]
fn what_a_loop_carries_does_not_grow() {
    // Which branch is taken is not known before, and neither is the size: doubled in each round, it would fill the memory.
    let nodes = vec![
        node(Op::Reduce { reduce: Reduce::Sum, axis: None, keep: false }, &[0]),
        node(Op::Compare(nnsight::graph::Compare::Le), &[1, 1]),
        node(Op::Cat { axis: 1 }, &[0, 0]),
        node(Op::Choose, &[2, 3, 0]),
    ];
    let body = Body { loop_carried: 1, over: None, captured: 0, nodes, condition: Some(NodeId(2)), yields: vec![NodeId(4)], limit: 1000 };
    let growing = graph(vec![node(Op::Loop(Box::new(body)), &[0]), node(Op::Item { index: 0 }, &[1])]);
    refused(tiny_llama(), growing, &["sent.rs:7:1", "a round makes [1, 8, 32] of [1, 4, 32]"]);
}

#[test]
fn loops_that_nobody_writes_by_hand() {
    // So deep that reading them would fill the stack.
    let mut body = over(0);
    for _ in 0..300 {
        body =
            Body { nodes: vec![node(Op::Loop(Box::new(body)), &[0, 2, 2]), node(Op::Item { index: 0 }, &[3])], yields: vec![NodeId(4)], ..over(0) };
    }
    let deep = graph(vec![node(Op::Loop(Box::new(body)), &[0, 0, 0])]);
    let bytes = deep.to_msgpack().unwrap();
    says(Graph::from_msgpack(&bytes), &["not a graph"]);
    says(tiny_llama().execute(deep), &["cannot take"]);
    // Nested while they are recorded.
    fn nest<'t>(h: Value<'t, Dynamic, (), Float>, levels: usize) -> Value<'t, Dynamic, (), Float> {
        while_loop(h, |h| h.gt(1.0), |h| if levels == 0 { h * 0.5 } else { nest(h, levels - 1) })
    }
    let model = tiny_llama();
    let recorded = |levels| trace!(model, TOKENS.to_vec(), { nest(model.layers[0].output.norm_all(), levels) });
    assert!(recorded(8).is_ok());
    for levels in [9, 15, 16, 40] {
        says(recorded(levels), &["limits.rs:", "a loop inside of eight others"]);
    }
}

#[test]
fn more_prompts_and_positions_than_the_owner_has_time_for() {
    let model = strict();
    let prompts = (0..1000).map(|_| vec![1u32; 60]).collect::<Vec<_>>();
    let start = Instant::now();
    says(trace!(model, &prompts, { model.layers[2].output.at(Seq, -1) }), &["token-layers (layers times positions)", "at most 10000"]);
    let steps = generate!(model, vec![1], max_new_tokens = 60, { model.tokens() });
    assert_eq!(steps.unwrap().dims(), [1, 60]);
    // All scores of many prompts, of which one is asked for.
    let prompts = (0..50).map(|_| vec![1u32; 64]).collect::<Vec<_>>();
    let limits = Limits { bytes: 1 << 22, ..Limits::default() };
    let small = Llama::<Dynamic>::load(Source::from(folder("tests/reference/llama"))).unwrap().with_limits(limits);
    let scores = trace!(small, &prompts, { small.layers[1].self_attn.scores.at(Query, -1).at(Key, -1) });
    says(scores, &["limits.rs:", "bytes in use at one time; at most 4194304"]);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn long_texts_are_not_split_into_tokens() {
    let model = crate::shared::smollm2();
    let start = Instant::now();
    let text = "a".repeat(12 << 20);
    says(trace!(model, text.as_str(), { model.layers[0].output }), &["prompt 0 of invoke 0 has", "reads at most"]);
    let text = "a".repeat(17 << 20);
    says(trace!(model, text.as_str(), { model.layers[0].output }), &["entries or bytes of inputs; at most 16777216"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn limits_are_those_of_the_reader() {
    let graph = graph((0..20).map(|last| node(Op::Unary(Unary::Tanh), &[last])).collect());
    let (json, bytes) = (graph.to_json().unwrap(), graph.to_msgpack().unwrap());
    let few = Limits { nodes: 20, ..Limits::default() };
    says(Graph::from_json_within(&json, &few), &["more than 20 entries"]);
    says(Graph::from_msgpack_within(&bytes, &few), &["more than 20 entries"]);
    let short = Limits { bytes: 100, ..Limits::default() };
    says(Graph::from_msgpack_within(&bytes, &short), &["bytes; at most 100"]);
    assert_eq!(Graph::from_json_within(&json, &Limits { nodes: 21, ..Limits::default() }).unwrap(), graph);
    assert_eq!(Graph::from_json(&json).unwrap(), graph, "the limits were in force for the other reading only");
    // The nodes of loops are counted with the others.
    let looped = self::graph(vec![node(Op::Loop(Box::new(over(0))), &[0, 0, 0]), node(Op::Item { index: 0 }, &[1])]);
    let model = Llama::<Dynamic>::load(Source::from(folder("tests/reference/llama"))).unwrap();
    refused(&model.with_limits(Limits { nodes: 3, ..Limits::default() }), looped, &["4 nodes; at most 3"]);
}

#[test]
fn the_work_of_a_product_is_counted() {
    let owner =
        |work| Llama::<Dynamic>::load(Source::from(folder("tests/reference/llama"))).unwrap().with_limits(Limits { work, ..Limits::default() });
    let run = |model: &Llama<Dynamic>| {
        trace!(model, TOKENS.to_vec(), {
            let h = model.layers[0].output.at(Batch, 0);
            h.transpose(Seq, Hidden).matmul(h.rename(Hidden, Mlp))
        })
    };
    says(run(&owner(1000)), &["limits.rs:", "entries to compute; at most 1000"]);
}

#[test]
fn edits_at_each_step_are_counted_before_they_are_made() {
    let model = tiny_llama();
    let view = edit!(model, { model.layers[0].output *= 0.5 }).unwrap();
    let mut graph = graph(vec![]);
    graph.invokes[0].rollout = Some(Generation::default().max_new_tokens(usize::MAX).rollout());
    refused(&view, graph.clone(), &["steps of a rollout; at most 1048576"]);
    graph.invokes[0].rollout = Some(Generation::default().max_new_tokens(1_000_000).rollout());
    refused(&view, graph.clone(), &["nodes, edits at each step included; at most 1000000"]);
    says(view.scan(graph.clone()), &["nodes, edits at each step included"]);
    // Ids from nowhere are refused before they are moved.
    graph.invokes[0].rollout = None;
    graph.nodes.push(node(Op::Unary(Unary::Exp), &[u32::MAX]));
    refused(&view, graph, &["argument 4294967295"]);
}

#[test]
fn embeddings_that_are_no_numbers() {
    let model = tiny_llama();
    for number in [f32::NAN, f32::INFINITY] {
        let mut entries = vec![0f32; 3 * 32];
        entries[40] = number;
        let embeddings = Constant { names: vec!["Seq".into(), "Hidden".into()], tensor: Candle::from_vec(entries, (3, 32), &Device::Cpu).unwrap() };
        let prompts = vec![Prompt::Tokens(vec![1, 2]), Prompt::Embeddings(embeddings)];
        let words = ["the embeddings of prompt 1 of invoke 0 hold", "finite"];
        says(trace!(model, prompts.clone(), { model.lm_head.output.at(Seq, -1) }), &words);
        says(scan!(model, prompts, { model.lm_head.output.at(Seq, -1) }), &words);
    }
}

#[test]
fn embeddings_that_16_bits_do_not_hold() {
    let half = Llama::<Dynamic>::load(Source::from(folder("tests/reference/llama")).dtype(DType::F16)).unwrap();
    let embeddings =
        |number: f32| Constant { names: vec!["Seq".into(), "Hidden".into()], tensor: Candle::full(number, (2, 32), &Device::Cpu).unwrap() };
    assert!(trace!(half, Prompt::Embeddings(embeddings(0.5)), { half.layers[0].output }).is_ok());
    let error = trace!(half, Prompt::Embeddings(embeddings(1e6)), { half.layers[0].output });
    says(error, &["the embeddings of prompt 0 of invoke 0 hold inf"]);
}

#[test]
fn a_scan_without_weights_refuses_what_a_run_refuses() {
    let meta = Llama::<SmolLm2_135M>::meta().unwrap();
    let scan = |tokens: Vec<u32>| {
        scan!(meta, tokens, {
            meta.layers[1].output.at(Seq, -1) = 0.0;
            meta.lm_head.output.at(Seq, -1)
        })
    };
    says(scan(vec![]), &["prompt 0 of invoke 0 is empty"]);
    says(scan(vec![1; 100_000]), &["100000 tokens", "reads at most"]);
    says(scan(vec![1, 49_152]), &["token 49152 of prompt 0"]);
    let masked = Prompt::Masked { tokens: vec![1, 2], seen: vec![true] };
    says(scan!(meta, masked, { meta.lm_head.output }), &["2 tokens and a mask for 1"]);
    let narrow = Constant { names: vec!["Seq".into(), "Hidden".into()], tensor: Candle::zeros((2, 5), DType::F32, &Device::Cpu).unwrap() };
    says(scan!(meta, Prompt::Embeddings(narrow), { meta.lm_head.output }), &["(Seq, Hidden = 576)", "[2, 5]"]);
    let generated = nnsight::trace::Traceable::scan(&meta, {
        let mut graph = nnsight::graph!(meta, vec![1], { meta.lm_head.output }).unwrap();
        graph.invokes[0].rollout = Some(Generation::default().max_new_tokens(1_000_000).rollout());
        graph
    });
    says(generated, &["reads at most"]);
    assert_eq!(scan(vec![1, 2]).unwrap().shapes(), [Some(vec![1, 49_152])]);
    // A text is of unknown length, and not refused.
    assert_eq!(scan!(meta, "text", { meta.layers[0].output }).unwrap().shapes(), [None]);
}

#[test]
fn texts_that_end_a_generation_are_few() {
    let stops = |texts: Vec<String>| {
        let mut graph = graph(vec![]);
        graph.invokes[0].rollout = Some(Generation::default().stop_strings(texts).rollout());
        graph
    };
    let words = ["bytes of settings of a rollout; at most 4096"];
    refused(tiny_llama(), stops((0..100_000).map(|text| text.to_string()).collect()), &words);
    refused(tiny_llama(), stops(vec!["x".repeat(5000)]), &words);
}

/// A model that returns another number of values than it was asked for.
struct Forgetful {
    returns: usize,
}

impl Traceable for Forgetful {
    type Network = <Llama<Dynamic> as Traceable>::Network;
    type Kind = nnsight::trace::Language;
    fn table(&self) -> &std::sync::Arc<nnsight::module::SiteTable> {
        tiny_llama().table()
    }
    fn run(&self, _graph: Graph, _watch: nnsight::run::Observer<'_>) -> Result<Vec<Result<Saved, nnsight::TraceError>>, nnsight::TraceError> {
        Ok((0..self.returns).map(|_| Ok(Candle::zeros((1, 4, 32), DType::F32, &Device::Cpu)?.into())).collect())
    }
    fn scan(&self, graph: Graph) -> Result<Vec<nnsight::graph::Facts>, nnsight::TraceError> {
        tiny_llama().scan(graph)
    }
}

#[test]
fn a_model_that_returns_too_few_values() {
    for returns in [0, 1, 3] {
        let model = Forgetful { returns };
        let result = trace!(model, TOKENS.to_vec(), { (model.layers[0].output, model.layers[1].output) });
        says(result, &[&format!("returned {returns} values for a graph that saves 2")]);
        let swept = sweep!(
            model,
            TOKENS.to_vec(),
            for layer in 0..2 {
                model.layers[layer].output
            }
        );
        says(swept, &[&format!("returned {returns} values for a graph that saves 2")]);
    }
    let model = Forgetful { returns: 2 };
    assert!(trace!(model, TOKENS.to_vec(), { (model.layers[0].output, model.layers[1].output) }).is_ok());
}

#[test]
fn names_that_steer_a_terminal() {
    let escape = "\u{1b}[2J\u{202e}";
    let words = ["\\u{1b}[2J\\u{202e}", "cannot be printed"];
    refused(tiny_llama(), graph(vec![node(Op::Rename { axis: 0, name: escape.into() }, &[0])]), &words);
    refused(tiny_llama(), Graph { sources: vec![Line { file: escape.into(), line: 1, column: 1 }], ..graph(vec![]) }, &words);
    let error = tiny_llama().execute(Graph { sites: vec![escape.into()], ..graph(vec![]) }).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
    let json = graph(vec![]).to_json().unwrap().replace("\"get\"", "\"g\\u001b[2Jt\"");
    let error = Graph::from_json(&json).unwrap_err().to_string();
    assert!(error.contains("\\u{1b}") && !error.contains('\u{1b}'), "{error:?}");
    // A label is text, and what is printed of it does nothing.
    assert!(tiny_llama().execute(graph(vec![node(Op::Log { label: format!("a label {escape}") }, &[0])])).is_ok());
}

#[test]
fn a_part_is_described_by_few_steps() {
    let step = Part { axis: 1, start: 0, end: None, single: false };
    let long = || Region(vec![step; 1000]);
    refused(tiny_llama(), graph(vec![node(Op::Slice(long()), &[0])]), &["1000 steps in a part of a value"]);
    let set = Op::Set { at: At::first(InvokeId(0)), site: SiteId(0), region: long(), unused: Unused::Keep };
    refused(tiny_llama(), graph(vec![node(set, &[0]), node(Op::Unary(Unary::Exp), &[0])]), &["1000 steps in a part of a value"]);
}

#[test]
fn the_values_of_a_loop_are_its_items() {
    let body = || Op::Loop(Box::new(over(0)));
    refused(tiny_llama(), graph(vec![node(body(), &[0, 0, 0]), node(Op::Unary(Unary::Exp), &[1])]), &["the values of a loop are its items"]);
}
