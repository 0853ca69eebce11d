//! BERT as Hugging Face transformers computes it: on a tiny random checkpoint every module, prompts side by side, gradients and edits, which
//! `tests/reference/make_bert.py` wrote; and all-MiniLM-L6-v2 with real weights, which `tests/reference/fetch_minilm` fetches, as sentence-transformers
//! embeds sentences with it. Without that file, nothing is tested of it.

use std::collections::HashMap;

use nnsight::candle_core::Tensor as Candle;
use nnsight::graph::{Generation, Rollout};
use nnsight::prelude::*;
use nnsight::trace::{Settings, Traceable};

use crate::shared::{difference, folder, numbers, relative, tensors};

fn load() -> (Bert<Dynamic>, HashMap<String, Candle>) {
    (Bert::load(Source::from(folder("tests/reference/bert"))).unwrap(), tensors("tests/reference/bert/expected.safetensors"))
}

fn ids(tokens: &Candle) -> Vec<u32> {
    tokens.flatten_all().unwrap().to_vec1::<i64>().unwrap().iter().map(|&token| token as u32).collect()
}

fn is(expected: &HashMap<String, Candle>, name: &str, found: &Candle, tolerance: f64) {
    let expected = &expected[name];
    let largest = numbers(expected).into_iter().fold(1.0, |most: f64, number| most.max(number.abs()));
    let difference = difference(found, expected);
    assert!(difference < tolerance * largest, "{name}: {difference} of {largest}");
}

/// The site that has what a module of transformers returns.
fn path(module: &str) -> String {
    let path = module.replace("encoder.layer.", "layers.").replace("embeddings.LayerNorm", "embeddings.norm");
    let path = match path.split_once(".attention") {
        // A module around a map and the norm after it is that norm.
        Some((layer, "" | ".output" | ".output.LayerNorm")) => format!("{layer}.attention_norm"),
        Some((layer, ".output.dense")) => format!("{layer}.attention.dense"),
        Some((layer, rest)) => format!("{layer}.attention{}", rest.replace(".self", "")),
        None => match path.rsplit_once(".output") {
            Some((layer, ".dense")) => format!("{layer}.mlp.dense"),
            Some((layer, "" | ".LayerNorm")) => format!("{layer}.output_norm"),
            _ => path.replace(".intermediate.dense", ".mlp.intermediate"),
        },
    };
    format!("{path}.output")
}

fn is_module(name: &str) -> bool {
    name.starts_with("embeddings") || name.starts_with("encoder")
}

#[test]
fn every_module_and_pattern() {
    let (model, expected) = load();
    assert!(nnsight::models::ARCHITECTURES.contains(&"bert"));
    let (cache, patterns, neurons, pooled) = trace!(model, ids(&expected["tokens"]), {
        let patterns = model.layers.iter().map(|layer| layer.attention.pattern.value()).collect::<Vec<_>>();
        let neurons = model.layers.iter().map(|layer| layer.mlp.act.value()).collect::<Vec<_>>();
        (model.cache(&Keep::outputs()), patterns, neurons, model.pooler.output.at(Seq, 0))
    })
    .unwrap();
    let modules = expected.keys().filter(|name| is_module(name)).collect::<Vec<_>>();
    assert_eq!(modules.len(), 5 + 13 * 3);
    let modules = modules.into_iter().filter(|name| !name.ends_with(".intermediate")).collect::<Vec<_>>();
    for name in modules {
        is(&expected, name, cache.get(&path(name)).unwrap().whole().unwrap(), 1e-5);
    }
    patterns.iter().enumerate().for_each(|(layer, pattern)| is(&expected, &format!("pattern.{layer}"), pattern, 1e-5));
    neurons.iter().enumerate().for_each(|(layer, neurons)| is(&expected, &format!("encoder.layer.{layer}.intermediate"), neurons, 1e-5));
    is(&expected, "pooled", &pooled, 1e-5);
    // A pattern looks at later positions.
    let first = numbers(&patterns[0].get(0).unwrap().get(0).unwrap().get(0).unwrap());
    assert!(first.iter().all(|&weight| weight > 0.0));
}

#[test]
fn prompts_of_different_lengths_are_those_that_transformers_pads_on_the_right() {
    let (model, expected) = load();
    let prompts = [0, 1, 2].map(|row| ids(&expected[&format!("padded.{row}.tokens")]));
    let (hidden, pooled, pattern) =
        trace!(model, prompts.to_vec(), { (model.layers[-1].output, model.pooler.output, model.layers[1].attention.pattern) }).unwrap();
    let pooled = pooled.at(Seq, 0);
    for (row, own) in hidden.rows().unwrap().iter().enumerate() {
        is(&expected, &format!("padded.{row}.hidden"), own, 1e-5);
        let (alone, first) = trace!(model, prompts[row].clone(), { (model.layers[-1].output, model.pooler.output.at(Seq, 0)) }).unwrap();
        is(&expected, &format!("padded.{row}.hidden"), &alone.get(0).unwrap(), 1e-5);
        assert!(difference(&pooled.get(row).unwrap(), &first.get(0).unwrap()) < 1e-5);
    }
    let pattern = pattern.rows().unwrap();
    assert_eq!(pattern[1].dims(), [4, 4, 4]);
    assert!(
        numbers(&pattern[1].sum(nnsight::candle_core::D::Minus1).unwrap()).iter().all(|sum| (sum - 1.0).abs() < 1e-5),
        "padding is not looked at"
    );
}

#[test]
fn hidden_tokens_are_looked_at_by_none() {
    let (model, expected) = load();
    let tokens = ids(&expected["padded.1.tokens"]);
    // Hidden at the end they are as if they were not there; positions are counted over the others.
    let longer = [&tokens[..], &[50, 51]].concat();
    let masked = Prompt::masked(&longer, &[true, true, true, true, false, false]);
    let hidden = trace!(model, masked, { model.layers[-1].output.slice(Seq, ..4) }).unwrap();
    is(&expected, "padded.1.hidden", &hidden.get(0).unwrap(), 1e-5);
}

#[test]
fn gradients_go_to_all_positions() {
    let (model, expected) = load();
    let weights = Tensor::<Dynamic, (Hidden,)>::new(Candle::arange(0f32, 32.0, &Device::Cpu).unwrap()).unwrap();
    let (embeddings, layers, attention, values) = trace!(model, ids(&expected["tokens"]), {
        let loss = (model.layers[-1].output.at(Seq, 1) * &weights).sum_all();
        let layers = (0..2).map(|layer| model.layers.layer(layer).output.grad(loss).value()).collect::<Vec<_>>();
        let attention = (0..3).map(|layer| model.layers.layer(layer).attention.output.grad(loss).value()).collect::<Vec<_>>();
        let values = (0..3).map(|layer| model.layers.layer(layer).attention.value.output.grad(loss).value()).collect::<Vec<_>>();
        (model.embeddings.output.grad(loss), layers, attention, values)
    })
    .unwrap();
    is(&expected, "grad.embeddings", &embeddings, 1e-4);
    layers.iter().enumerate().for_each(|(layer, found)| is(&expected, &format!("grad.encoder.layer.{layer}"), found, 1e-4));
    for layer in 0..3 {
        is(&expected, &format!("grad.encoder.layer.{layer}.attention.output.dense"), &attention[layer], 1e-4);
        is(&expected, &format!("grad.encoder.layer.{layer}.attention.self.value"), &values[layer], 1e-4);
    }
    let last = embeddings.at(Seq, -1);
    assert!(numbers(&last).iter().any(|entry| entry.abs() > 1e-3), "a later position has a gradient of what an earlier one computes");
}

#[test]
fn an_edit_at_a_later_position_changes_earlier_ones() {
    let (model, expected) = load();
    let tokens = ids(&expected["tokens"]);
    let plain = trace!(model, tokens.clone(), { model.layers[-1].output }).unwrap();
    let edited = trace!(model, tokens.clone(), {
        model.layers[0].output.at(Seq, -1) *= 2.0;
        model.layers[-1].output
    })
    .unwrap();
    is(&expected, "edited.hidden", &edited, 1e-5);
    // Each position by itself, in a run of its own: none is refused, none is taken from the run without the edit.
    for position in 0..tokens.len() as i64 {
        let alone = trace!(model, tokens.clone(), {
            model.layers[0].output.at(Seq, -1) *= 2.0;
            model.layers[-1].output.at(Seq, position)
        })
        .unwrap();
        assert!(difference(&alone, &edited.at(Seq, position)) < 1e-5);
        assert!(difference(&alone, &plain.at(Seq, position)) > 1e-3, "position {position} sees the last");
    }
}

#[test]
fn tokens_of_a_second_sentence_are_of_another_type() {
    let (model, expected) = load();
    let hidden = trace!(model, ids(&expected["tokens"]), {
        model.embeddings.token_type_embeddings.input.slice(Seq, -4..) = 1;
        model.layers[-1].output
    })
    .unwrap();
    is(&expected, "types.hidden", &hidden, 1e-5);
}

#[test]
fn a_sweep_over_layers_and_positions_shares_layers_and_no_positions() {
    let (model, expected) = load();
    let naive = load().0.with_optimizations(Optimizations::naive());
    let prompt = ids(&expected["tokens"]);
    let width = prompt.len();
    let swept = sweep!(
        model,
        prompt.clone(),
        for (layer, position) in grid(0..2usize, 0..width as i64) {
            model.layers.layer(layer).output.at(Seq, position) *= 0.5;
            model.layers[-1].output.at(Seq, 0)
        }
    )
    .unwrap();
    for layer in 0..2 {
        for position in 0..width {
            let alone = trace!(naive, prompt.clone(), {
                naive.layers.layer(layer).output.at(Seq, position as i64) *= 0.5;
                naive.layers[-1].output.at(Seq, 0)
            })
            .unwrap();
            assert!(difference(&swept.get(layer).unwrap().get(position).unwrap(), &alone) < 1e-5, "layer {layer}, position {position}");
        }
    }
    // The plain run has all layers; an edited one begins in the layer of its edit, and has all positions from there on.
    let graph = graph!(model, {
        let base = invoke!(prompt.clone(), { model.layers[-1].output.at(Seq, 0) });
        let first = invoke!(prompt.clone(), {
            model.layers[0].output.at(Seq, 10) *= 0.5;
            model.layers[-1].output.at(Seq, 0)
        });
        let second = invoke!(prompt.clone(), {
            model.layers[1].output.at(Seq, 10) *= 0.5;
            model.layers[-1].output.at(Seq, 0)
        });
        (base, first, second)
    })
    .unwrap();
    assert_eq!(model.explain(&graph).unwrap().token_layers, ((3 + 3 + 2) * width, 3 * 3 * width));
    assert_eq!(naive.explain(&graph).unwrap().token_layers, (3 * 3 * width, 3 * 3 * width));
}

#[test]
fn half_precision_stays_close() {
    let (_, expected) = load();
    for dtype in [DType::BF16, DType::F16] {
        let model = Bert::<Dynamic>::load(Source::from(folder("tests/reference/bert").as_path()).dtype(dtype)).unwrap();
        let prompts = [0, 1, 2].map(|row| ids(&expected[&format!("padded.{row}.tokens")]));
        let hidden = trace!(model, prompts.to_vec(), { model.layers[-1].output }).unwrap();
        assert_eq!(hidden.dtype(), dtype);
        for (row, own) in hidden.rows().unwrap().iter().enumerate() {
            let relative = relative(own, &expected[&format!("padded.{row}.hidden")]);
            assert!(relative < 0.05, "{dtype:?}: {relative}");
        }
    }
}

#[test]
fn what_is_written_to_scores_does_not_show_padding() {
    let (model, expected) = load();
    let prompts = [0, 1, 2].map(|row| ids(&expected[&format!("padded.{row}.tokens")]));
    let pattern = trace!(model, prompts.to_vec(), {
        model.layers[0].attention.scores *= 0.0;
        model.layers[0].attention.pattern
    })
    .unwrap();
    for (row, own) in pattern.rows().unwrap().iter().enumerate() {
        let even = 1.0 / prompts[row].len() as f64;
        assert!(numbers(own).iter().all(|weight| (weight - even).abs() < 1e-6), "row {row}");
    }
}

#[test]
fn nothing_is_generated_by_an_encoder() {
    let (model, expected) = load();
    let mut graph = graph!(model, ids(&expected["tokens"]), { model.layers[-1].output }).unwrap();
    let rollout: Rollout = Generation::default().rollout();
    graph.invokes[0].rollout = Some(rollout);
    for error in [model.execute(graph.clone()).unwrap_err(), model.scan(graph).unwrap_err()] {
        assert!(error.to_string().contains("`Dynamic` is an encoder, which generates no tokens"), "{error}");
    }
    let error = model.next_logits(&[Prompt::Tokens(vec![3, 17])]).unwrap_err();
    assert!(error.to_string().contains("`Dynamic` is an encoder, which has no logits; read its hidden states"), "{error}");
}

#[test]
fn what_would_be_another_model_is_refused() {
    let path = folder("tests/reference/bert");
    let text = std::fs::read_to_string(path.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in [
        ("is_decoder", serde_json::json!(true)),
        ("hidden_act", "gelu_new".into()),
        ("position_embedding_type", "relative_key".into()),
        ("architectures", serde_json::json!(["BertForMaskedLM"])),
        ("is_causal", true.into()),
        ("directionality", "left".into()),
        ("type_vocab_size", 0.into()),
        ("intermediate_size", serde_json::Value::Null),
        ("rotary_base", 10.into()),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let mut config = config.clone();
        config[key] = value;
        std::fs::write(temporary.path().join("config.json"), config.to_string()).unwrap();
        std::fs::copy(path.join("model.safetensors"), temporary.path().join("model.safetensors")).unwrap();
        let error = Bert::<Dynamic>::load(Source::from(temporary.path())).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
    let error = Llama::<Dynamic>::load(Source::from(path.as_path())).unwrap_err().to_string();
    assert!(error.contains("bert"), "{error}");
}

#[test]
fn it_is_written_as_a_folder_and_read_again() {
    let (model, expected) = load();
    let temporary = tempfile::tempdir().unwrap();
    Bert::<Dynamic>::convert(Source::from(folder("tests/reference/bert")), temporary.path()).unwrap();
    let again = Bert::<Dynamic>::load(Source::from(temporary.path())).unwrap();
    let [one, two] = [&model, &again].map(|model| trace!(model, ids(&expected["tokens"]), { model.layers[-1].output }).unwrap());
    assert!(crate::shared::identical(&one, &two));
    assert!(Bert::<AllMiniLm_L6_V2>::meta().unwrap().tree().to_string().contains("layers"));
}

fn minilm() -> Option<Bert<AllMiniLm_L6_V2>> {
    let named = std::env::var_os("NNSIGHT_MINILM").map(std::path::PathBuf::from);
    let folder = named.or_else(|| Some(std::env::home_dir()?.join(".cache/nnsight/all-minilm-l6-v2")))?;
    folder.join("model.safetensors").exists().then(|| Bert::load(Source::from(folder.as_path())).unwrap())
}

const SENTENCES: [&str; 5] = [
    "A cat sleeps on the sofa.",
    "Kittens!",
    "On the couch lies a dozing feline, and nothing in the world will wake it before noon.",
    "The central bank raised interest rates by half a percentage point.",
    "Borrowing money becomes more expensive.",
];

#[test]
fn sentences_are_embedded_as_sentence_transformers_embeds_them() {
    let Some(model) = minilm() else { return };
    let expected = tensors("tests/reference/bert/sentences.safetensors");
    for (row, sentence) in SENTENCES.iter().enumerate() {
        assert_eq!(model.tokenizer().encode(sentence).unwrap(), ids(&expected[&format!("tokens.{row}")]));
    }
    // Side by side in one batch, each row as long as it is.
    let graph = graph!(model, SENTENCES.to_vec(), { model.layers[-1].output }).unwrap();
    assert_eq!(model.explain(&graph).unwrap().batches.len(), 1);
    let hidden = trace!(model, SENTENCES.to_vec(), { model.layers[-1].output }).unwrap();
    let own = hidden.rows().unwrap();
    assert_eq!(own.iter().map(|row| row.dims()[0]).collect::<Vec<_>>(), [9, 5, 23, 14, 8]);
    for (row, own) in own.iter().enumerate() {
        let mean = own.mean(0).unwrap();
        let unit = mean.broadcast_div(&mean.sqr().unwrap().sum_all().unwrap().sqrt().unwrap()).unwrap();
        assert!(difference(&unit, &expected["embeddings"].get(row).unwrap()) < 1e-5);
    }
    // In the trace, each in an invoke of its own, and compared there.
    let (embeddings, cosines) = trace!(model, {
        let embeddings = stack(&SENTENCES.map(|sentence| {
            invoke!(sentence, {
                let mean = model.layers[-1].output.mean(Seq).at(Batch, 0);
                mean / mean.norm_keepdim(Hidden)
            })
        }));
        (embeddings, embeddings.matmul(embeddings.rename(Stacked, Batch).transpose(Batch, Hidden)))
    })
    .unwrap();
    assert!(difference(&embeddings, &expected["embeddings"]) < 1e-5, "{}", difference(&embeddings, &expected["embeddings"]));
    let cosine = |a: usize, b: usize| numbers(&cosines.get(a).unwrap().get(b).unwrap())[0];
    for (a, b, expected) in [(0, 0, 1.0), (0, 2, 0.468), (0, 3, -0.017), (3, 4, 0.360), (1, 2, 0.325)] {
        assert!((cosine(a, b) - expected).abs() < 1e-3, "{a}, {b}: {}", cosine(a, b));
    }
}
