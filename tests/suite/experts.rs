//! MLPs that are made of experts, as Hugging Face transformers computes them: which experts a position goes to, and what each returns.

use std::collections::HashMap;

use nnsight::candle_core::{D, Tensor as Candle};
use nnsight::kernels::softmax;
use nnsight::prelude::*;

use crate::shared::{difference, folder, identical, numbers, tensors};

type Expected = HashMap<String, Candle>;

const PROMPT: [u32; 11] = [3, 17, 5, 40, 22, 8, 60, 1, 33, 12, 7];
const LAYERS: usize = 3;
const EXPERTS: usize = 6;

fn load() -> (Qwen3Moe<Dynamic>, Expected) {
    let path = "tests/reference/qwen3_moe";
    (Qwen3Moe::load(Source::from(folder(path))).unwrap(), tensors(&format!("{path}/expected.safetensors")))
}

fn is(name: &str, found: &Candle, expected: &Expected) {
    let expected = &expected[name];
    let largest = numbers(expected).into_iter().fold(1.0, |most: f64, number| most.max(number.abs()));
    let difference = difference(found, expected);
    assert!(difference < 1e-5 * largest, "{name}: {difference} of {largest}");
}

/// For each position whether it goes to an expert.
fn goes_to(chosen: &Candle, expert: usize) -> Vec<bool> {
    let chosen = chosen.squeeze(0).unwrap().to_vec2::<i64>().unwrap();
    chosen.iter().map(|position| position.contains(&(expert as i64))).collect()
}

#[test]
fn which_experts_a_position_goes_to_and_what_each_of_them_returns() {
    let (model, expected) = load();
    let (chosen, weights, experts, logits) = trace!(model, PROMPT.to_vec(), {
        let chosen = model.layers.iter().map(|layer| layer.mlp.chosen.value()).collect::<Vec<_>>();
        let weights = model.layers.iter().map(|layer| layer.mlp.weights.value()).collect::<Vec<_>>();
        let of_layer = |layer: usize| model.layers[layer].mlp.experts.iter().map(|expert| expert.output.value()).collect::<Vec<_>>();
        (chosen, weights, (0..LAYERS).map(of_layer).collect::<Vec<_>>(), model.logits())
    })
    .unwrap();
    for layer in 0..LAYERS {
        assert_eq!(chosen[layer].to_vec3::<i64>().unwrap(), expected[&format!("chosen.{layer}")].to_vec3::<i64>().unwrap());
        is(&format!("weights.{layer}"), &weights[layer], &expected);
        assert_eq!(experts[layer].len(), EXPERTS);
        experts[layer].iter().enumerate().for_each(|(expert, output)| is(&format!("model.layers.{layer}.mlp.experts.{expert}"), output, &expected));
    }
    is("logits", &logits, &expected);
}

#[test]
fn looking_at_experts_changes_nothing() {
    let (model, _) = load();
    let plain = trace!(model, PROMPT.to_vec(), { model.logits() }).unwrap();
    let (looked_at, _) = trace!(model, PROMPT.to_vec(), {
        let last = model.layers[-1].mlp.experts.iter().map(|expert| expert.down_proj.input.value()).collect::<Vec<_>>();
        let _ = model.layers[0].mlp.experts[2].output;
        (model.logits(), last)
    })
    .unwrap();
    assert!(identical(&looked_at, &plain));
}

#[test]
fn an_edit_of_an_expert_reaches_the_positions_that_go_to_it() {
    let (model, expected) = load();
    let layer = 2;
    let of_expert = |expert: usize| goes_to(&expected[&format!("chosen.{layer}")], expert);
    let goes_and_not = |expert: &usize| [true, false].iter().all(|goes| of_expert(*expert).contains(goes));
    let expert = (0..EXPERTS).find(goes_and_not).expect("to one of them some positions go");
    let goes = of_expert(expert);
    let (plain, edited) = trace!(model, {
        let plain = invoke!(PROMPT.to_vec(), { model.layers[layer].mlp.output });
        let edited = invoke!(PROMPT.to_vec(), {
            model.layers[layer].mlp.experts[expert].output = 0.0;
            model.layers[layer].mlp.output
        });
        (plain, edited)
    })
    .unwrap();
    // Without what it returned, weighted.
    let weights = expected[&format!("weights.{layer}")].squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    let chosen = expected[&format!("chosen.{layer}")].squeeze(0).unwrap().to_vec2::<i64>().unwrap();
    for (position, goes) in goes.into_iter().enumerate() {
        let at = |x: &Candle| x.get(0).unwrap().get(position).unwrap();
        let taken = (at(&plain) - at(&edited)).unwrap();
        let weight = chosen[position].iter().zip(&weights[position]).find(|(chosen, _)| **chosen == expert as i64).map_or(0.0, |(_, weight)| *weight);
        assert_eq!(goes, weight > 0.0);
        let added = (at(&expected[&format!("model.layers.{layer}.mlp.experts.{expert}")]) * f64::from(weight)).unwrap();
        assert!(difference(&taken, &added) < 1e-4, "position {position}");
    }
}

#[test]
fn skipping_an_expert_and_choosing_others() {
    let (model, expected) = load();
    let mlp = |edit: i64| {
        trace!(model, PROMPT.to_vec(), {
            let chosen = model.layers[0].mlp.chosen;
            // Every position goes to the two experts that are given, by the weights that these have.
            model.layers[0].mlp.chosen = chosen - chosen + edit;
            (model.layers[0].mlp.gate.output, model.layers[0].mlp.weights, model.layers[0].mlp.output)
        })
    };
    let (_, weights, output) = mlp(3).unwrap();
    assert!(numbers(&weights).iter().all(|weight| (weight - 0.5).abs() < 1e-6), "twice the same expert");
    assert!(difference(&output, &expected["model.layers.0.mlp.experts.3"]) < 1e-4);
    for missing in [6, -1] {
        let error = mlp(missing).unwrap_err().to_string();
        assert!(error.contains(&format!("a position is to go to expert {missing}, and there are 6")), "{error}");
    }
    let skipped = trace!(model, PROMPT.to_vec(), {
        let input = model.layers[0].mlp.input;
        for expert in model.layers[0].mlp.experts {
            expert.skip(input);
        }
        (input, model.layers[0].mlp.output)
    });
    let (input, output) = skipped.unwrap();
    assert!(difference(&input, &output) < 1e-5, "the weights add up to one");
}

#[test]
fn weights_add_up_to_one_if_the_config_says_so() {
    let (_, expected) = load();
    let changed = tempfile::tempdir().unwrap();
    let source = folder("tests/reference/qwen3_moe");
    let config = std::fs::read_to_string(source.join("config.json")).unwrap().replace(r#""norm_topk_prob": true"#, r#""norm_topk_prob": false"#);
    std::fs::write(changed.path().join("config.json"), config).unwrap();
    std::fs::copy(source.join("model.safetensors"), changed.path().join("model.safetensors")).unwrap();
    let model = Qwen3Moe::<Dynamic>::load(Source::from(changed.path())).unwrap();
    let weights = trace!(model, PROMPT.to_vec(), { model.layers[0].mlp.weights }).unwrap();
    let probabilities = softmax(&expected["model.layers.0.mlp.gate"]).unwrap();
    assert!(difference(&weights, &probabilities.gather(&expected["chosen.0"], D::Minus1).unwrap()) < 1e-5);
    assert!(numbers(&(*weights).sum_keepdim(D::Minus1).unwrap()).iter().all(|sum| *sum < 0.999));
}

#[test]
fn gradients_of_the_router_and_of_experts() {
    let (model, expected) = load();
    let (router, experts, mlp) = trace!(model, PROMPT.to_vec(), {
        let loss = model.logits().at(Seq, -1).pick(Vocab, 5).sum_all();
        (
            model.layers.iter().map(|layer| layer.mlp.gate.output.grad(loss).value()).collect::<Vec<_>>(),
            model.layers[1].mlp.experts.iter().map(|expert| expert.output.grad(loss).value()).collect::<Vec<_>>(),
            model.layers[1].mlp.output.grad(loss),
        )
    })
    .unwrap();
    for (layer, router) in router.iter().enumerate() {
        let name = format!("grad.model.layers.{layer}.mlp.gate");
        let largest = numbers(&expected[&name]).into_iter().fold(1.0, |most: f64, number| most.max(number.abs()));
        assert!(difference(router, &expected[&name]) < 1e-4 * largest, "{name}");
    }
    // What is added to the sum by a weight has the sum's gradient by that weight: zeros, of an expert that no position goes to.
    assert!((0..EXPERTS).any(|expert| !goes_to(&expected["chosen.1"], expert).contains(&true)), "the reference has one");
    let weights = expected["weights.1"].squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    let chosen = expected["chosen.1"].squeeze(0).unwrap().to_vec2::<i64>().unwrap();
    for (position, (chosen, weights)) in chosen.iter().zip(&weights).enumerate() {
        for (expert, gradient) in experts.iter().enumerate() {
            let weight = chosen.iter().zip(weights).find(|(chosen, _)| **chosen == expert as i64).map_or(0.0, |(_, weight)| *weight);
            let at = |x: &Candle| x.get(0).unwrap().get(position).unwrap();
            assert!(difference(&at(gradient), &(at(&mlp) * f64::from(weight)).unwrap()) < 1e-4, "expert {expert} at position {position}");
        }
    }
}

#[test]
fn a_list_in_every_layer_is_written_out_once() {
    let (model, _) = load();
    let tree = model.tree().to_string();
    assert!(tree.contains("0 … 2: DecoderLayer") && tree.contains("0 … 5: GatedMlp"), "{tree}");
    assert_eq!(tree.matches("up_proj: Linear").count(), 1, "{tree}");
    assert_eq!(model.tree().modules.iter().filter(|module| module.length == Some(EXPERTS)).count(), LAYERS);
}

#[test]
fn an_expert_that_is_not_there_is_refused_with_the_list_and_its_length() {
    let (model, _) = load();
    let expert = 6;
    let error = trace!(model, PROMPT.to_vec(), { model.layers[2].mlp.experts[expert].output }).unwrap_err().to_string();
    assert!(error.contains("`layers.2.mlp.experts` has 6 experts, and so no expert 6"), "{error}");
    // Of a layer that is not there, too, the first that is missing is named.
    let error = trace!(model, PROMPT.to_vec(), { model.layers[expert].mlp.experts[expert].output }).unwrap_err().to_string();
    assert!(error.contains("`layers` has 3 layers, and so no layer 6"), "{error}");
}

#[test]
fn neurons_of_an_mlp_that_is_made_of_experts_are_refused_where_they_are_asked_for() {
    let (model, _) = load();
    let error = trace!(model, PROMPT.to_vec(), { model.block(1).mlp_post() }).unwrap_err().to_string();
    assert!(error.contains("the model has no site `layers.1.mlp_post`") && error.contains("experts.rs"), "{error}");
}

#[test]
fn layers_without_experts_are_refused_by_name() {
    let source = folder("tests/reference/qwen3_moe");
    for (key, was, is) in [("decoder_sparse_step", "1", "2"), ("mlp_only_layers", "[]", "[0]")] {
        let changed = tempfile::tempdir().unwrap();
        let config = std::fs::read_to_string(source.join("config.json")).unwrap().replace(&format!("\"{key}\": {was}"), &format!("\"{key}\": {is}"));
        std::fs::write(changed.path().join("config.json"), config).unwrap();
        std::fs::copy(source.join("model.safetensors"), changed.path().join("model.safetensors")).unwrap();
        let error = Qwen3Moe::<Dynamic>::load(Source::from(changed.path())).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

/// The compiler knows how many experts there are; a function for every model can ask for one.
fn of_last<'t, C: Signature + HasLayer<127, Experts>>(mlp: nnsight::models::qwen3_moe::SparseMlpSites<'t, C>) -> Value<'t, C, (Batch, Seq, Hidden)> {
    mlp.experts[127].output.value()
}

#[test]
fn the_last_expert_of_a_large_model() {
    let model = Qwen3Moe::<Qwen3_30B_A3B>::meta().unwrap();
    let found =
        scan!(model, vec![1, 2, 3], { (model.layers[47].mlp.experts[-128].output, of_last(model.layers[-1].mlp), model.layers[0].mlp.chosen) });
    assert_eq!(found.unwrap().shapes(), [Some(vec![1, 3, 2048]), Some(vec![1, 3, 2048]), Some(vec![1, 3, 8])]);
}

#[test]
fn a_mixtral_goes_to_the_experts_that_transformers_goes_to() {
    let path = "tests/reference/mixtral";
    let (model, expected) = (Mixtral::<Dynamic>::load(Source::from(folder(path))).unwrap(), tensors(&format!("{path}/expected.safetensors")));
    let (chosen, weights, neurons) = trace!(model, PROMPT.to_vec(), {
        let layers = model.layers.iter().map(|layer| layer.block_sparse_moe);
        let (chosen, weights): (Vec<_>, Vec<_>) = layers.map(|mlp| (mlp.chosen.value(), mlp.weights.value())).unzip();
        (chosen, weights, model.layers[1].block_sparse_moe.experts[-1].w1.output)
    })
    .unwrap();
    for layer in 0..LAYERS {
        assert_eq!(chosen[layer].to_vec3::<i64>().unwrap(), expected[&format!("chosen.{layer}")].to_vec3::<i64>().unwrap());
        is(&format!("weights.{layer}"), &weights[layer], &expected);
    }
    is("model.layers.1.block_sparse_moe.experts.3.w1", &neurons, &expected);
}

#[test]
fn a_sweep_over_the_experts_of_every_layer_is_its_runs_one_by_one() {
    let (model, _) = load();
    let naive = load().0.with_optimizations(Optimizations::naive());
    let swept = sweep!(
        model,
        PROMPT.to_vec(),
        for (layer, expert) in grid(0..LAYERS, 0..EXPERTS) {
            model.layers[layer].mlp.experts[expert].output = 0.0;
            model.logits().at(Seq, -1)
        }
    )
    .unwrap();
    for layer in 0..LAYERS {
        for expert in 0..EXPERTS {
            let alone = trace!(naive, PROMPT.to_vec(), {
                naive.layers[layer].mlp.experts[expert].output = 0.0;
                naive.logits().at(Seq, -1)
            })
            .unwrap();
            assert!(difference(&swept.get(layer).unwrap().get(expert).unwrap(), &alone) < 1e-4, "expert {expert} of layer {layer}");
        }
    }
}

#[test]
fn experts_of_prompts_of_different_lengths_and_of_generated_tokens() {
    let (model, _) = load();
    let short = vec![9, 2, 33, 4];
    let alone = trace!(model, short.clone(), { model.layers[1].mlp.experts[2].output }).unwrap();
    let beside = trace!(model, {
        let _ = invoke!(PROMPT.to_vec(), { model.layers[1].mlp.output });
        invoke!(short.clone(), { model.layers[1].mlp.experts[2].output })
    });
    assert!(difference(&beside.unwrap(), &alone) < 1e-5);
    // Steered at every step by an edit of one expert: as if the whole text had been given at once.
    let (tokens, logits) = generate!(model, short.clone(), max_new_tokens = 5, {
        let logits = model.steps(..).map(|step| {
            step.layers[0].mlp.experts[1].output *= 3.0;
            step.logits().at(Seq, -1)
        });
        (model.tokens(), logits)
    })
    .unwrap();
    let tokens = tokens.flatten_all().unwrap().to_vec1::<i64>().unwrap();
    let whole = short.iter().copied().chain(tokens.iter().map(|token| *token as u32)).collect::<Vec<_>>();
    let expected = trace!(model, whole, {
        model.layers[0].mlp.experts[1].output *= 3.0;
        model.logits()
    })
    .unwrap();
    for (step, logits) in logits.iter().enumerate() {
        let expected = expected.get(0).unwrap().get(short.len() - 1 + step).unwrap().unsqueeze(0).unwrap();
        assert!(difference(logits, &expected) < 1e-4, "step {step}");
    }
}
