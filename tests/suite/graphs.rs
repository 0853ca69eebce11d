//! A graph is data: text, JSON, MessagePack and pictures.

use nnsight::prelude::*;
use nnsight::trace::Traceable;
use proptest::prelude::*;

use crate::random::random_graph;
use crate::shared::{identical, tiny_llama};

fn example() -> Graph {
    let model = tiny_llama();
    let direction = Tensor::<Dynamic, (Hidden,)>::new(nnsight::candle_core::Tensor::arange(0f32, 32.0, &Device::Cpu).unwrap()).unwrap();
    nnsight::graph!(model, {
        let clean = invoke!("a prompt", { model.layers[1].output.at(Seq, -1) });
        invoke!(vec![4, 5, 6], {
            model.layers[1].output.at(Seq, -1) = clean + &direction * 0.5;
            if clean.norm_all().gt(1.0) {
                model.layers[2].mlp.output *= 2.0;
            }
            model.lm_head(model.norm(model.layers[-1].output)).softmax(Vocab)
        })
    })
    .unwrap()
}

#[test]
fn the_text_form_is_stable() {
    let expected = "\
graph Dynamic
  invoke 0: \"a prompt\"
  invoke 1: [4, 5, 6]
  %0 = get layers.1.output of 0
  %1 = %0[1: -1]
  %2 = constant (Hidden) [32]
  %3 = 0.5
  %4 = mul %2, 0.5
  %5 = add %1, %4
  set layers.1.output[1: -1] of 1 = %5
  %7 = norm %1 over all
  %8 = 1
  %9 = gt %7, 1
  if %9 is true: %10 = get layers.2.mlp.output of 1
  if %9 is true: %11 = 2
  if %9 is true: %12 = mul %10, 2
  if %9 is true: set layers.2.mlp.output of 1 = %12
  %14 = get layers.2.output of 1
  %15 = call norm %14
  %16 = call lm_head %15
  %17 = softmax %16 over 2
  save %17";
    assert_eq!(example().to_string(), expected);
}

#[test]
fn every_node_knows_its_line() {
    let graph = example();
    let lines = graph.iter().map(|(id, _)| graph.source(id).unwrap()).collect::<Vec<_>>();
    assert!(lines.iter().all(|source| source.file.ends_with("graphs.rs") && source.line > 13 && source.line < 26), "{lines:?}");
    assert!(lines.windows(2).any(|pair| pair[0].line < pair[1].line));
}

#[test]
fn pictures() {
    let graph = example();
    let dot = graph.to_dot();
    assert!(dot.starts_with("digraph trace {") && dot.ends_with("}\n"));
    assert!(dot.contains("n0 [label = \"layers.1.output\", shape = box"));
    assert!(dot.contains("  n0 -> n1;") && dot.contains("peripheries = 2"));
    let mermaid = graph.to_mermaid();
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains("n17(\"softmax\"):::saved") && mermaid.contains("  n16 --> n17\n"));
}

#[test]
fn a_graph_that_was_sent_gives_the_same() {
    let model = tiny_llama();
    let graph = nnsight::graph!(model, vec![1, 2, 3], {
        model.layers[1].output.at(Seq, -1) *= 0.5;
        (model.layers[2].self_attn.pattern, model.lm_head.output)
    })
    .unwrap();
    let sent = Graph::from_msgpack(&graph.to_msgpack().unwrap()).unwrap();
    let (here, there) = (model.execute(graph).unwrap(), model.execute(sent).unwrap());
    assert!(here.iter().zip(&there).all(|(a, b)| identical(a, b)));
}

proptest! {
    #![proptest_config(crate::shared::cases(64))]

    #[test]
    fn a_graph_survives_json_and_msgpack(graph in random_graph()) {
        prop_assert_eq!(&Graph::from_json(&graph.to_json().unwrap()).unwrap(), &graph);
        prop_assert_eq!(&Graph::from_msgpack(&graph.to_msgpack().unwrap()).unwrap(), &graph);
    }

    /// Whatever arrives: an error or a graph, never a panic.
    #[test]
    fn damaged_graphs_are_errors(graph in random_graph(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut json = graph.to_json().unwrap().into_bytes();
        let mut packed = graph.to_msgpack().unwrap();
        for (at, byte) in &edits {
            let (a, b) = (at.index(json.len()), at.index(packed.len()));
            json[a] = *byte;
            packed[b] = *byte;
        }
        let read = [std::str::from_utf8(&json).ok().and_then(|text| Graph::from_json(text).ok()), Graph::from_msgpack(&packed).ok()];
        for graph in read.into_iter().flatten() {
            let _ = (graph.to_string(), graph.to_dot(), graph.to_mermaid());
            let _ = tiny_llama().execute(graph);
        }
    }
}

#[test]
fn graphs_of_the_version_before_are_read() {
    let model = tiny_llama();
    let embeddings = nnsight::candle_core::Tensor::from_vec((0..64).map(|entry| entry as f32 / 64.0).collect::<Vec<_>>(), (2, 32), &Device::Cpu);
    let embeddings = Tensor::<Dynamic, (Seq, Hidden)>::new(embeddings.unwrap()).unwrap();
    // What the files say that version 0.1 wrote.
    let traces = nnsight::graph!(model, {
        let plain = invoke!(vec![3, 17, 5], {
            model.layers[0].output.at(Seq, -1) *= 0.5;
            model.lm_head.output.at(Seq, -1)
        });
        let masked = invoke!(Prompt::masked(&[3, 17, 5], &[true, false, true]), { model.layers[1].output.at(Seq, -1) });
        let embedded = invoke!(&embeddings, { model.layers[1].output });
        let all = invoke!({ model.layers[0].mlp.output.at(Seq, -1) });
        (plain, masked, embedded, all)
    });
    let generation = nnsight::graph!(model, vec![3, 17, 5], max_new_tokens = 4, temperature = 0.7, seed = 3, {
        for step in model.steps(..) {
            step.layers[0].output *= 0.9;
        }
        (model.tokens(), model.step(2).layers[1].output)
    });
    let text = nnsight::graph!(model, "The Eiffel Tower", { model.layers[0].output.at(Seq, -1) });
    for (name, now) in [("traces", traces.unwrap()), ("generation", generation.unwrap()), ("text", text.unwrap())] {
        let file = |ending: &str| std::fs::read(crate::shared::folder("tests/files/version2").join(format!("{name}.{ending}"))).ok();
        let mut read = vec![Graph::from_json(std::str::from_utf8(&file("json").unwrap()).unwrap()).unwrap()];
        read.extend(file("msgpack").map(|bytes| Graph::from_msgpack(&bytes).unwrap()));
        for graph in read {
            assert!(graph.to_json().unwrap().starts_with("{\"version\":3,"));
            assert_eq!(graph.to_string(), now.to_string());
            if name != "text" {
                let run = |graph: Graph| {
                    let found = model.execute(graph).unwrap();
                    found.iter().map(|tensor| tensor.to_dtype(DType::F32).unwrap()).collect::<Vec<_>>()
                };
                let (then, now) = (run(graph), run(now.clone()));
                assert!(then.len() == now.len() && then.iter().zip(&now).all(|(then, now)| identical(then, now)));
            }
        }
    }
}
