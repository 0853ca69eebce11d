//! One block for every point of a grid.

use nnsight::prelude::*;

use crate::shared::{difference, numbers, tiny_gpt2, tiny_llama};

const CLEAN: [u32; 6] = [3, 17, 5, 40, 22, 8];
const CORRUPTED: [u32; 6] = [3, 17, 6, 40, 22, 8];

#[test]
#[allow(clippy::needless_range_loop)]
fn a_grid_of_layers_and_positions_gives_what_each_point_gives_alone() {
    let model = tiny_llama();
    let clean = trace!(model, CLEAN.to_vec(), { model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>() }).unwrap();
    let grid: Tensor<Dynamic, (Over<0>, Over<1>, Batch, Vocab)> = sweep!(
        model,
        CORRUPTED.to_vec(),
        for (layer, position) in grid(0..model.depth(), 0..6) {
            model.layers[layer].output.at(Seq, position) = clean[layer].at(Seq, position);
            model.lm_head.output.at(Seq, -1)
        }
    )
    .unwrap();
    assert_eq!(grid.dims(), [3, 6, 1, 64]);
    for layer in 0..3 {
        for position in 0..6 {
            let alone = trace!(model, CORRUPTED.to_vec(), {
                effect(model.layers[layer].output.at(Seq, position)) = clean[layer].at(Seq, position);
                model.lm_head.output.at(Seq, -1)
            });
            let found = grid.get(layer).unwrap().get(position as usize).unwrap();
            assert!(difference(&found, &alone.unwrap()) < 1e-5, "layer {layer}, position {position}");
        }
    }
}

#[test]
fn loops_within_each_other_are_a_grid() {
    let model = tiny_llama();
    let nested: Tensor<Dynamic, (Over<0>, Over<1>, Over<2>)> = sweep!(
        model,
        CLEAN.to_vec(),
        for layer in 0..3 {
            for (head, strength) in grid(0..2, [0.0, 2.0]) {
                model.layers[layer].self_attn.z.head(head) *= strength;
                model.lm_head.output.at(Seq, -1).norm_all()
            }
        }
    )
    .unwrap();
    let grid = sweep!(
        model,
        CLEAN.to_vec(),
        for (layer, head, strength) in grid(0..3, 0..2, [0.0, 2.0]) {
            model.layers[layer].self_attn.z.head(head) *= strength;
            model.lm_head.output.at(Seq, -1).norm_all()
        }
    );
    assert_eq!(nested.dims(), [3, 2, 2]);
    assert_eq!(numbers(&nested), numbers(&grid.unwrap()));
}

#[test]
fn heads_strengths_and_anything_else_are_gone_over() {
    let model = tiny_gpt2();
    let ablated = sweep!(
        model,
        CLEAN.to_vec(),
        for (layer, head) in grid(0..3, 0..4) {
            model.transformer.h[layer].attn.z.head(head) = 0.0;
            model.lm_head.output.at(Seq, -1).pick(Vocab, 5)
        }
    )
    .unwrap();
    assert_eq!(ablated.dims(), [3, 4, 1]);
    let strengths = [0.0, 0.5, 1.0, 2.0];
    let steered = sweep!(
        model,
        vec![CLEAN.to_vec(), CORRUPTED.to_vec()],
        for strength in strengths {
            model.transformer.h[1].output *= strength;
            model.lm_head.output.at(Seq, -1).norm(Vocab)
        }
    )
    .unwrap();
    assert_eq!(steered.dims(), [4, 2]);
    let plain = trace!(model, vec![CLEAN.to_vec(), CORRUPTED.to_vec()], { model.lm_head.output.at(Seq, -1).norm(Vocab) }).unwrap();
    assert!(difference(&steered.get(2).unwrap(), &plain) < 1e-5);
    let (best, norms) = sweep!(
        model,
        CLEAN.to_vec(),
        for layer in 0..3 {
            model.transformer.h[layer].mlp.output = 0.0;
            let logits = model.lm_head.output.at(Seq, -1);
            (logits.argmax(Vocab), logits.norm(Vocab))
        }
    )
    .unwrap();
    assert_eq!((best.dims(), norms.dims()), (&[3, 1][..], &[3, 1][..]));
    let cube = sweep!(
        model,
        CLEAN.to_vec(),
        for (layer, neuron, strength) in grid(vec![0, 2], [1i64, 7], strengths) {
            model.transformer.h[layer].mlp.act.at(nnsight::types::Mlp, neuron) *= strength;
            model.lm_head.output.at(Seq, -1).norm_all()
        }
    )
    .unwrap();
    assert_eq!(cube.dims(), [2, 2, 4]);
    let alone = trace!(model, CLEAN.to_vec(), {
        model.transformer.h[2].mlp.act.at(nnsight::types::Mlp, 7) *= 2.0;
        model.lm_head.output.at(Seq, -1).norm_all()
    });
    assert!((numbers(&cube)[2 * 2 * 4 - 1] - numbers(&alone.unwrap())[0]).abs() < 1e-4);
}

#[test]
#[allow(clippy::needless_range_loop)]
fn prompts_of_different_lengths_are_gone_over() {
    let model = tiny_llama();
    let prompts = [CLEAN.to_vec(), vec![7, 9], CORRUPTED.to_vec(), vec![1, 2, 3, 4, 5, 6, 7, 8, 9]];
    let grid = sweep!(
        model,
        prompt.clone(),
        for (prompt, layer) in grid(&prompts, 0..3) {
            model.layers[layer].output.at(Seq, -1) *= 0.5;
            model.lm_head.output.at(Seq, -1)
        }
    )
    .unwrap();
    assert_eq!(grid.dims(), [4, 3, 1, 64]);
    for (at, prompt) in prompts.iter().enumerate() {
        for layer in 0..3 {
            let alone = trace!(model, prompt, {
                model.layers[layer].output.at(Seq, -1) *= 0.5;
                model.lm_head.output.at(Seq, -1)
            });
            assert!(difference(&grid.get(at).unwrap().get(layer).unwrap(), &alone.unwrap()) < 1e-5, "prompt {at}, layer {layer}");
        }
    }
    // Also where its name stands in a text only.
    let model = crate::shared::smollm2();
    let next = sweep!(
        model,
        format!("{name} is"),
        for name in ["Berlin", "The capital of Italy"] {
            model.lm_head.output.at(Seq, -1).argmax(Vocab)
        }
    );
    assert_eq!(next.unwrap().dims(), [2, 1]);
}

#[test]
fn an_edit_that_reaches_something_at_no_point_is_refused() {
    let model = tiny_llama();
    let error = sweep!(
        model,
        CLEAN.to_vec(),
        for layer in 1..3 {
            model.layers[layer].output = 0.0;
            model.layers[0].output.norm_all()
        }
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("sweeps.rs:") && error.contains("has no effect"), "{error}");
    let error = sweep!(
        model,
        CLEAN.to_vec(),
        for layer in 1..1 {
            model.layers[layer].output = 0.0;
            model.lm_head.output.norm_all()
        }
    );
    assert!(error.unwrap_err().to_string().contains("no points"));
}

#[test]
fn hundreds_of_points_go_into_several_batches() {
    let model = tiny_llama();
    let grid = sweep!(
        model,
        CLEAN.to_vec(),
        for (layer, position, channel) in grid(0..3, 0..6, 0..32) {
            model.layers[layer].output.at(Seq, position).at(Hidden, channel) += 1.0;
            model.lm_head.output.at(Seq, -1).pick(Vocab, 5)
        }
    )
    .unwrap();
    assert_eq!(grid.dims(), [3, 6, 32, 1]);
    for (layer, position, channel) in [(0, 0, 0), (1, 3, 17), (2, 5, 31)] {
        let alone = trace!(model, CLEAN.to_vec(), {
            model.layers[layer].output.at(Seq, position).at(Hidden, channel) += 1.0;
            model.lm_head.output.at(Seq, -1).pick(Vocab, 5)
        });
        let found = numbers(&grid)[(layer * 6 + position) * 32 + channel];
        assert!((found - numbers(&alone.unwrap())[0]).abs() < 1e-5);
    }
}

#[test]
fn a_sweep_is_a_graph_too() {
    use nnsight::trace::Traceable;
    let model = tiny_llama();
    let graph = graph!(
        model,
        CLEAN.to_vec(),
        for (layer, strength) in grid(0..3, [0.5, 2.0]) {
            model.layers[layer].output.at(Seq, -1) *= strength;
            model.lm_head.output.at(Seq, -1).norm_all()
        }
    )
    .unwrap();
    let explanation = model.explain(&graph).unwrap().to_string();
    assert!(explanation.contains("1 different prompts of 6 runs, once") && explanation.contains("4 runs branch off 0"), "{explanation}");
    let swept = sweep!(
        model,
        CLEAN.to_vec(),
        for (layer, strength) in grid(0..3, [0.5, 2.0]) {
            model.layers[layer].output.at(Seq, -1) *= strength;
            model.lm_head.output.at(Seq, -1).norm_all()
        }
    );
    let found = model.execute(graph).unwrap();
    assert_eq!(found.iter().map(|point| f64::from(point.to_scalar::<f32>().unwrap())).collect::<Vec<_>>(), numbers(&swept.unwrap()));
}

/// The sizes of the residual stream after an edit of each strength in each layer.
fn strengths(model: &Llama<Dynamic>, most: f64, file: &std::path::Path) -> nnsight::Result<Tensor<Dynamic, (Over<0>, Over<1>)>> {
    Ok(sweep!(
        model,
        CLEAN.to_vec(),
        checkpoint = file,
        for (layer, strength) in grid(0..3, [0.5, 1.0, most]) {
            model.layers[layer].output *= strength;
            model.lm_head.output.at(Seq, -1).norm_all()
        }
    )?)
}

#[test]
fn a_sweep_goes_on_from_its_file() {
    let model = tiny_llama();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grid.safetensors");
    let whole = strengths(model, 2.0, &file).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left in the folder");
    // Some results are missing, as where the program was interrupted; one that is there is another, to be known again.
    let mut held = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    held.retain(|name, _| name == "sweep" || name.parse::<usize>().unwrap() < 4);
    held.insert("2".into(), nnsight::candle_core::Tensor::new(-1f32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&held, &file).unwrap();
    let again = strengths(model, 2.0, &file).unwrap();
    let (mut expected, again) = (numbers(&whole), numbers(&again));
    expected[2] = -1.0;
    assert!(expected.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-4), "{expected:?} {again:?}");
    // All of it is there now.
    assert_eq!(numbers(&strengths(model, 2.0, &file).unwrap()), again);
    let error = strengths(model, 3.0, &file).unwrap_err().to_string();
    assert!(error.contains("does not hold the results of this sweep") && error.contains("remove it"), "{error}");
    std::fs::write(&file, "nothing").unwrap();
    assert!(strengths(model, 2.0, &file).is_err());
}

#[test]
fn a_file_of_results_belongs_to_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grid.safetensors");
    let reference = || Source::from(crate::shared::folder("tests/reference/llama"));
    let load = |source: Source| Llama::<Dynamic>::load(source).unwrap();
    let first = strengths(tiny_llama(), 2.0, &file).unwrap();
    let refused = |model: &Llama<Dynamic>| {
        let error = strengths(model, 2.0, &file).unwrap_err().to_string();
        assert!(error.contains("its model, prompts, points or block are others"), "{error}");
    };
    // One weight is another, in a row of the embedding that these prompts have no token of.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(crate::shared::folder("tests/reference/llama/config.json"), copy.join("config.json")).unwrap();
    let mut weights = crate::shared::tensors("tests/reference/llama/model.safetensors");
    candle_core::safetensors::save(&weights, copy.join("model.safetensors")).unwrap();
    let name = weights.keys().find(|name| name.ends_with("embed_tokens.weight")).unwrap().clone();
    let table = &weights[&name];
    let row = (table.narrow(0, 63, 1).unwrap() * 1.5).unwrap();
    let table = nnsight::candle_core::Tensor::cat(&[table.narrow(0, 0, 63).unwrap(), row], 0).unwrap();
    weights.insert(name, table);
    candle_core::safetensors::save(&weights, copy.join("model.safetensors")).unwrap();
    refused(&load(Source::from(copy)));
    // The same weights in another type.
    refused(&load(reference().dtype(DType::BF16)));
    // The model with an edit, in place or as a view.
    let mut edited = load(reference());
    let edit = edit!(edited, { edited.layers[0].output *= 0.5 }).unwrap().into_edits();
    *edited.edits_mut() = edit;
    refused(&edited);
    let model = tiny_llama();
    let view = edit!(model, { model.layers[0].output *= 0.5 }).unwrap();
    let on_view = sweep!(
        view,
        CLEAN.to_vec(),
        checkpoint = &file,
        for (layer, strength) in grid(0..3, [0.5, 1.0, 2.0]) {
            view.layers[layer].output *= strength;
            view.lm_head.output.at(Seq, -1).norm_all()
        }
    );
    assert!(on_view.is_err());
    // The same model, loaded again, goes on.
    assert_eq!(numbers(&strengths(&load(reference()), 2.0, &file).unwrap()), numbers(&first));
}

#[test]
fn results_of_another_type_or_shape_are_refused() {
    use nnsight::candle_core::Tensor as Candle;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grid.safetensors");
    strengths(tiny_llama(), 2.0, &file).unwrap();
    let held = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    for wrong in [
        Candle::new(1f64, &Device::Cpu).unwrap(),
        Candle::new(1i64, &Device::Cpu).unwrap(),
        Candle::new(1u8, &Device::Cpu).unwrap(),
        Candle::new(&[1f32], &Device::Cpu).unwrap(),
        Candle::zeros((2, 2), DType::F32, &Device::Cpu).unwrap(),
    ] {
        let mut held = held.clone();
        held.insert("3".into(), wrong);
        candle_core::safetensors::save(&held, &file).unwrap();
        let error = strengths(tiny_llama(), 2.0, &file).unwrap_err().to_string();
        assert!(error.contains("its result `3` is of type") && error.contains("remove it"), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_noticed_before_anything_runs() {
    let model = tiny_llama();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "nothing").unwrap();
    for file in ["no/such/folder/grid", "file/grid"] {
        let path = folder.path().join(file);
        let error = strengths(model, 2.0, &path).unwrap_err().to_string();
        assert!(error.contains("cannot be kept in") && error.contains("name a file that can be written"), "{error}");
    }
    let error = strengths(model, 2.0, folder.path()).unwrap_err().to_string();
    assert!(error.contains("it is not a file"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left in the folder");
}

#[test]
fn a_sweep_with_a_file_needs_a_model_that_can_be_told_from_others() {
    struct Nameless;
    impl nnsight::trace::Traceable for Nameless {
        type Network = <Llama<Dynamic> as nnsight::trace::Traceable>::Network;
        type Kind = nnsight::trace::Language;
        fn table(&self) -> &std::sync::Arc<nnsight::module::SiteTable> {
            tiny_llama().table()
        }
        fn run(
            &self,
            graph: Graph,
            observer: nnsight::run::Observer<'_>,
        ) -> Result<Vec<Result<nnsight::types::Saved, nnsight::TraceError>>, nnsight::TraceError> {
            tiny_llama().run(graph, observer)
        }
        fn scan(&self, graph: Graph) -> Result<Vec<nnsight::graph::Facts>, nnsight::TraceError> {
            tiny_llama().scan(graph)
        }
    }
    let (model, folder) = (Nameless, tempfile::tempdir().unwrap());
    let file = folder.path().join("grid");
    let swept = sweep!(
        model,
        CLEAN.to_vec(),
        checkpoint = &file,
        for layer in 0..2 {
            model.layers[layer].output.norm_all()
        }
    );
    let error = swept.unwrap_err().to_string();
    assert!(error.contains("cannot be told from others") && error.contains("without `checkpoint`"), "{error}");
}

/// The tokenizer is part of what tells models apart: it must be written the same each time that it is read.
#[test]
fn a_tokenizer_is_written_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one.json"), folder.path().join("other.json"));
    crate::shared::smollm2().tokenizer().save(&one).unwrap();
    nnsight::models::Tokenizer::from_file(&one).unwrap().save(&other).unwrap();
    assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap());
}
