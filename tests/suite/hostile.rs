//! Graphs that failed once: each gives planned what it gives as it is written, or is refused.

use nnsight::graph::{At, Binary, Body, Invoke, InvokeId, Node, NodeId, Op, Reduce, Source as Line, SourceId, Unary};
use nnsight::prelude::*;
use nnsight::trace::Traceable;

use crate::fuzz::check::{Outcome, subjects};
use crate::shared::{difference, folder, identical, numbers, tiny_llama};

const A: [u32; 4] = [3, 17, 5, 40];
const B: [u32; 6] = [3, 17, 5, 40, 22, 8];

/// The tiny Llama without any optimization.
fn naive() -> Llama<Dynamic> {
    Llama::load(Source::from(folder("tests/reference/llama")))
        .expect("the reference checkpoint is in the repository")
        .with_optimizations(Optimizations::naive())
}

/// A graph planned and as it is written.
fn both(graph: &Graph) -> (Vec<nnsight::candle_core::Tensor>, Vec<nnsight::candle_core::Tensor>) {
    (tiny_llama().execute(graph.clone()).unwrap(), naive().execute(graph.clone()).unwrap())
}

#[test]
fn graphs_that_gave_something_else_planned() {
    for name in ["DIFFERENT-4896-1", "DIFFERENT-8065-19", "DIFFERENT-8597-21", "DIFFERENT-285708"] {
        let graph = Graph::from_msgpack(&std::fs::read(folder(&format!("tests/hostile/{name}.bin"))).unwrap()).unwrap();
        assert_eq!(subjects()[0].check(&graph).unwrap(), Outcome::Same, "{name}");
    }
}

#[test]
fn modules_are_applied_to_vectors_of_no_prompt() {
    let call = || Op::Call { module: "norm".into() };
    let constant =
        nnsight::graph::Constant { names: vec!["Hidden".into()], tensor: nnsight::candle_core::Tensor::arange(0f32, 32.0, &Device::Cpu).unwrap() };
    let nodes = vec![
        node(Op::Constant(nnsight::graph::ConstantId(0)), vec![]),
        node(call(), vec![0]),
        node(Op::Unary(Unary::Neg), vec![0]),
        node(call(), vec![2]),
        node(get(0), vec![]),
        node(call(), vec![4]),
    ];
    // Alone, and beside values of a prompt.
    for saves in [vec![1, 3], vec![1, 3, 5]] {
        let graph = Graph { constants: vec![constant.clone()], ..graph(nodes.clone(), saves) };
        let (planned, naive) = both(&graph);
        assert!(planned.iter().zip(&naive).all(|(planned, naive)| difference(planned, naive) < 1e-6));
    }
    let (planned, _) = both(&Graph { constants: vec![constant], ..graph(nodes, vec![1, 3]) });
    assert_eq!(numbers(&planned[0])[31], -numbers(&planned[1])[31]);
}

#[test]
fn a_module_is_skipped_by_its_output_only() {
    let skip = Op::Skip { at: At::first(InvokeId(0)), site: nnsight::graph::SiteId(1), unused: nnsight::graph::Unused::Drop };
    let nodes = vec![node(Op::Scalar(-2.0), vec![]), node(skip, vec![0]), node(get(2), vec![])];
    let mut graph = graph(nodes, vec![2]);
    assert!(tiny_llama().execute(graph.clone()).is_ok());
    for inside in ["layers.1.input", "layers.1.mlp.act", "layers.1.mlp.gate_proj.weight"] {
        graph.sites[1] = inside.into();
        let error = tiny_llama().execute(graph.clone()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{inside}` is not the output of a module")), "{error}");
    }
}

#[test]
fn graphs_that_panicked() {
    for name in ["PANIC-1261-6", "PANIC-19607-27", "PANIC-81205"] {
        let bytes = std::fs::read(folder(&format!("tests/hostile/{name}.bin"))).unwrap();
        // They may be refused as they are read.
        if let Ok(graph) = Graph::from_msgpack(&bytes) {
            for subject in subjects() {
                _ = subject.check(&graph).unwrap();
            }
        }
    }
}

#[test]
fn a_module_is_applied_to_what_it_gave() {
    let model = tiny_llama();
    let graph = nnsight::graph!(model, A.to_vec(), {
        let h = model.layers[0].output;
        let other = model.layers[1].output;
        let twice = model.norm(model.norm(h));
        // Directly, three times over, with something between, and side by side with others.
        let thrice = model.layers[1].mlp(model.layers[1].mlp(model.layers[1].mlp(h)));
        let between = model.norm(model.norm(other * 2.0).tanh() + h);
        (twice, thrice, between, model.norm(other), model.layers[1].mlp(other))
    })
    .unwrap();
    let (planned, naive) = both(&graph);
    for (index, (planned, naive)) in planned.iter().zip(&naive).enumerate() {
        assert!(difference(planned, naive) < 1e-5, "value {index}");
    }
    assert!(difference(&planned[0], &planned[3]) > 1e-3);
}

#[test]
fn a_run_writes_back_what_it_read_and_is_looked_at_after_that() {
    let model = tiny_llama();
    let lens = |write_last: bool| {
        nnsight::graph!(model, {
            let plain = invoke!(A.to_vec(), { model.lm_head.output });
            let looked = invoke!(A.to_vec(), {
                let h = model.layers[0].output.value();
                if !write_last {
                    model.layers[0].output = h;
                }
                let lens = (0..3).map(|layer| model.lm_head(model.norm(model.layers[layer].output))).collect::<Vec<_>>();
                if write_last {
                    effect(model.layers[0].output) = h;
                }
                lens
            });
            (plain, looked)
        })
        .unwrap()
    };
    for mut graph in [lens(false), lens(true)] {
        for late in [false, true] {
            if late {
                // The edit comes last in the graph, though its moment is an early one.
                let at = graph.iter().position(|(_, node)| matches!(node.op, Op::Set { .. })).unwrap();
                let edit = graph.nodes.remove(at);
                for node in &mut graph.nodes {
                    node.args.iter_mut().filter(|arg| arg.index() > at).for_each(|arg| arg.0 -= 1);
                }
                graph.saves.iter_mut().filter(|save| save.index() > at).for_each(|save| save.0 -= 1);
                graph.nodes.push(edit);
            }
            let (planned, naive) = both(&graph);
            assert_eq!(planned.len(), 4);
            for (planned, naive) in planned.iter().zip(&naive) {
                assert!(difference(planned, naive) < 1e-5);
            }
            assert!(difference(&planned[0], &planned[3]) < 1e-5, "the last lens is the head itself");
        }
    }
}

#[test]
fn running_sums_beside_a_run_of_another_length() {
    let model = tiny_llama();
    let graph = nnsight::graph!(model, {
        let short = invoke!(vec![A.to_vec(), A.to_vec()], {
            let k = model.layers[1].self_attn.k;
            let scores = model.layers[1].self_attn.pattern;
            (k.cumsum(Seq), k.cumsum(KvHeads), k.cumsum(HeadDim), scores.cumsum(Heads), model.layers[0].output.cumsum(Seq))
        });
        (short, invoke!(B.to_vec(), { model.layers[1].self_attn.k }))
    })
    .unwrap();
    let (planned, naive) = both(&graph);
    for (planned, naive) in planned.iter().zip(&naive) {
        assert!(difference(planned, naive) < 1e-5);
    }
    // A sum of the keys by hand, the same for both rows.
    let k = model.execute(nnsight::graph!(model, vec![A.to_vec(), A.to_vec()], { model.layers[1].self_attn.k }).unwrap()).unwrap();
    let mut rows = vec![k[0].narrow(2, 0, 1).unwrap()];
    for position in 1..4 {
        rows.push((&rows[position - 1] + k[0].narrow(2, position, 1).unwrap()).unwrap());
    }
    assert!(difference(&planned[0], &nnsight::candle_core::Tensor::cat(&rows, 2).unwrap()) < 1e-5);
}

fn node(op: Op, args: Vec<u32>) -> Node {
    Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) }
}

fn graph(nodes: Vec<Node>, saves: Vec<u32>) -> Graph {
    Graph {
        signature: "Dynamic".into(),
        invokes: vec![Invoke { inputs: vec![Prompt::Tokens(A.to_vec()).into()], ..Invoke::default() }],
        sites: vec!["layers.0.output".into(), "layers.1.output".into(), "layers.2.output".into()],
        nodes,
        saves: saves.into_iter().map(NodeId).collect(),
        sources: vec![Line { file: "hostile.rs".into(), line: 1, column: 1 }],
        ..Graph::default()
    }
}

fn get(site: u32) -> Op {
    Op::Get { at: At::first(InvokeId(0)), site: nnsight::graph::SiteId(site) }
}

/// `count` nodes that alternate, on a reading; the loss, and its gradient.
fn deep(count: u32) -> Graph {
    let mut nodes = vec![node(get(0), vec![]), node(Op::Scalar(1.0), vec![])];
    for index in 0..count {
        let last = if index == 0 { 0 } else { index + 1 };
        nodes.push(match index % 2 {
            0 => node(Op::Unary(Unary::Neg), vec![last]),
            _ => node(Op::Binary(Binary::Add), vec![last, 0]),
        });
    }
    let last = nodes.len() as u32 - 1;
    nodes.push(node(Op::Reduce { reduce: Reduce::Sum, axis: None, keep: false }, vec![last]));
    nodes.push(node(Op::Grad, vec![0, last + 1]));
    graph(nodes, vec![last + 1, last + 2])
}

#[test]
fn a_gradient_goes_through_a_hundred_thousand_nodes() {
    // Each pair of nodes adds the value to what is negated: 1 - (1 - (1 - …)), which alternates.
    for (count, expected) in [(2, 0.0), (4, 1.0), (1_000, 0.0), (9_000, 0.0), (100_000, 0.0)] {
        let pairs = count / 2;
        let expected = if pairs % 2 == 0 { 1.0 } else { expected };
        let found = tiny_llama().execute(deep(count)).unwrap();
        assert!(numbers(&found[1]).iter().all(|x| *x == expected), "{count} nodes");
        assert_eq!(found[1].dims(), [1, 4, 32]);
    }
}

#[test]
fn a_cut_gradient_is_the_gradient() {
    let chain = |count: u32| {
        let mut nodes = vec![node(get(0), vec![]), node(Op::Scalar(0.999), vec![])];
        for index in 0..count {
            let last = if index == 0 { 0 } else { index + 1 };
            nodes.push(node(Op::Binary(Binary::Mul), vec![last, 1]));
        }
        let last = nodes.len() as u32 - 1;
        // The loss depends on the chain twice: at its end and in its middle.
        nodes.push(node(Op::Binary(Binary::Add), vec![last, last / 2]));
        nodes.push(node(Op::Reduce { reduce: Reduce::Sum, axis: None, keep: false }, vec![last + 1]));
        nodes.push(node(Op::Grad, vec![0, last + 2]));
        (graph(nodes, vec![last + 3]), f64::from(last / 2 - 1))
    };
    for count in [10, 255, 256, 257, 600, 3_000] {
        let (graph, middle) = chain(count);
        let found = tiny_llama().execute(graph).unwrap();
        let expected = 0.999f64.powf(f64::from(count)) + 0.999f64.powf(middle);
        assert!(numbers(&found[0]).iter().all(|x| (x - expected).abs() < 1e-3), "{count}: {} instead of {expected}", numbers(&found[0])[0]);
    }
}

#[test]
fn a_gradient_goes_through_a_loop_of_thousands_of_rounds() {
    let model = tiny_llama();
    let (h, gradient) = trace!(model, A.to_vec(), {
        let h = model.layers[0].output.value();
        let zero = h.zeros_like().sum_all();
        let (sum, _) = while_loop((h, zero), |(_, rounds)| rounds.lt(20_000.0), |(sum, rounds)| (-sum, rounds + 1.0));
        (h, h.grad(sum.sum_all()))
    })
    .unwrap();
    assert_eq!(h.dims(), gradient.dims());
    assert!(numbers(&gradient).iter().all(|x| *x == 1.0));
}

#[test]
fn an_edit_of_many_parts_within_each_other_has_a_gradient() {
    let step = nnsight::graph::Step { axis: 1, start: 0, end: None, single: false };
    let region = nnsight::graph::Region(vec![step; 20_000]);
    let nodes = vec![
        node(get(0), vec![]),
        node(Op::Unary(Unary::Neg), vec![0]),
        node(Op::Patch(region), vec![0, 1]),
        node(Op::Reduce { reduce: Reduce::Sum, axis: None, keep: false }, vec![2]),
        node(Op::Grad, vec![0, 3]),
    ];
    match tiny_llama().execute(graph(nodes, vec![4])) {
        Ok(found) => assert!(numbers(&found[0]).iter().all(|x| *x == -1.0)),
        Err(error) => assert!(error.to_string().contains("at most"), "{error}"),
    }
}

#[test]
fn bodies_within_each_other_are_dropped_one_by_one() {
    let mut body = Body { loop_carried: 1, over: None, captured: 0, nodes: vec![], condition: None, yields: vec![NodeId(0)], limit: 1 };
    for _ in 0..200_000 {
        body = Body {
            loop_carried: 1,
            over: None,
            captured: 0,
            nodes: vec![node(Op::Loop(Box::new(body)), vec![0])],
            condition: None,
            yields: vec![NodeId(1)],
            limit: 1,
        };
    }
    let graph = graph(vec![node(get(0), vec![]), node(Op::Loop(Box::new(body)), vec![0])], vec![0]);
    assert!(graph.validate(&nnsight::graph::Limits::default()).is_err());
}

#[test]
fn a_hundred_thousand_nodes_are_run_without_a_gradient() {
    let mut graph = deep(100_000);
    graph.nodes.pop();
    graph.saves.truncate(1);
    let found = tiny_llama().execute(graph.clone()).unwrap();
    assert!(identical(&found[0], &naive().execute(graph).unwrap()[0]));
}
