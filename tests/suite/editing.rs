//! Skipping modules, stopping, edited views, weights, parts of sites by lists and masks.

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

use crate::shared::{difference, identical, numbers, tiny_gpt2, tiny_llama};

const PROMPT: [u32; 6] = [3, 17, 5, 40, 22, 8];

fn logits() -> Tensor<Dynamic, (Batch, Seq, Vocab)> {
    let model = tiny_llama();
    trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap()
}

#[test]
fn a_skipped_module_gives_what_it_is_given() {
    let model = tiny_llama();
    let (input, output, next) = trace!(model, PROMPT.to_vec(), {
        let x = model.layers[1].input;
        model.layers[1].skip(x * 2.0);
        (x.value(), model.layers[1].output, model.layers[2].input)
    })
    .unwrap();
    assert!(identical(&output, &Tensor::<Dynamic, (Batch, Seq, Hidden)>::new((&*input * 2.0).unwrap()).unwrap()));
    assert!(identical(&next, &output));
    // A number stands for all of it.
    let attention = trace!(model, PROMPT.to_vec(), {
        model.layers[1].self_attn.skip(0.0);
        (model.layers[1].self_attn.output, model.layers[1].resid_mid, model.layers[1].input)
    })
    .unwrap();
    assert!(numbers(&attention.0).iter().all(|&x| x == 0.0) && identical(&attention.1, &attention.2));
}

#[test]
fn several_modules_are_skipped_and_inputs_set() {
    let model = tiny_llama();
    let skipped = trace!(model, PROMPT.to_vec(), {
        model.layers[1].skip(model.layers[0].output);
        model.layers[2].skip(model.layers[1].output);
        model.lm_head.output
    })
    .unwrap();
    let by_hand = trace!(model, PROMPT.to_vec(), { model.lm_head(model.norm(model.layers[0].output)) }).unwrap();
    assert!(difference(&skipped, &by_hand) < 1e-6);
    let doubled = trace!(model, PROMPT.to_vec(), {
        model.layers[1].input *= 2.0;
        model.layers[1].skip(model.layers[1].input);
        (model.layers[0].output, model.layers[1].output)
    })
    .unwrap();
    assert!(difference(&doubled.1, &(&*doubled.0 * 2.0).unwrap()) < 1e-6);
}

#[test]
fn the_inside_of_a_skipped_module_cannot_be_used() {
    let model = tiny_llama();
    let error = trace!(model, PROMPT.to_vec(), {
        model.layers[1].skip(model.layers[0].output);
        (model.layers[1].mlp.output, model.lm_head.output)
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("`layers.1.mlp.output` lies inside of `layers.1`, which is skipped"), "{error}");
    let error = trace!(model, PROMPT.to_vec(), {
        model.layers[1].skip(model.layers[0].output);
        model.layers[1].self_attn.z = 0.0;
        model.lm_head.output
    });
    assert!(error.is_err());
}

#[test]
fn a_module_is_skipped_for_some_prompts_only() {
    let model = tiny_llama();
    let short = [9u32, 2, 33];
    let (skipped, inside, plain) = trace!(model, {
        let skipped = invoke!(PROMPT.to_vec(), {
            model.layers[1].skip(model.layers[0].output);
            model.lm_head.output
        });
        let (inside, plain) = invoke!(short.to_vec(), { (model.layers[1].mlp.output, model.lm_head.output) });
        (skipped, inside, plain)
    })
    .unwrap();
    let alone = trace!(model, PROMPT.to_vec(), {
        model.layers[1].skip(model.layers[0].output);
        model.lm_head.output
    });
    assert!(difference(&skipped, &alone.unwrap()) < 1e-5);
    let alone = trace!(model, short.to_vec(), { (model.layers[1].mlp.output, model.lm_head.output) }).unwrap();
    assert!(difference(&inside, &alone.0) < 1e-5 && difference(&plain, &alone.1) < 1e-5);
}

/// A module that some rows skip is run for the others, whose looks into it and skips in it are their own.
#[test]
fn others_look_into_a_module_that_some_skip() {
    let model = tiny_llama();
    let (skipped, inner, read) = trace!(model, {
        let skipped = invoke!(PROMPT.to_vec(), {
            model.layers[1].self_attn.skip(1.0);
            model.lm_head.output
        });
        let inner = invoke!(PROMPT.to_vec(), {
            model.layers[1].self_attn.q_proj.skip(0.5);
            model.lm_head.output
        });
        let read =
            invoke!(PROMPT.to_vec(), { (model.layers[1].self_attn.k_proj.input, model.layers[1].self_attn.k_proj.output, model.lm_head.output) });
        (skipped, inner, read)
    })
    .unwrap();
    let alone = trace!(model, PROMPT.to_vec(), {
        model.layers[1].self_attn.skip(1.0);
        model.lm_head.output
    });
    assert!(difference(&skipped, &alone.unwrap()) < 1e-5);
    let alone = trace!(model, PROMPT.to_vec(), {
        model.layers[1].self_attn.q_proj.skip(0.5);
        model.lm_head.output
    });
    assert!(difference(&inner, &alone.unwrap()) < 1e-5);
    let alone =
        trace!(model, PROMPT.to_vec(), { (model.layers[1].self_attn.k_proj.input, model.layers[1].self_attn.k_proj.output, model.lm_head.output) })
            .unwrap();
    assert!(difference(&read.0, &alone.0) < 1e-5 && difference(&read.1, &alone.1) < 1e-5 && difference(&read.2, &alone.2) < 1e-5);
}

#[test]
fn an_attention_once_skipped_stays_skipped() {
    let model = tiny_llama();
    let error = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, {
        let prompt = model.prompt();
        prompt.layers[1].skip(prompt.layers[0].output);
        model.tokens()
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("`layers.1` is skipped at step 0 and run at a later one"), "{error}");
    let tokens = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, {
        for step in model.steps(..) {
            step.layers[1].skip(step.layers[0].output);
        }
        // An MLP keeps nothing of earlier positions.
        model.step(1).layers[2].mlp.skip(0.0);
        model.tokens()
    });
    assert_eq!(tokens.unwrap().dims(), [1, 3]);
}

#[test]
fn a_stopped_run_gives_what_came_before() {
    let model = tiny_llama();
    let hidden = trace!(model, PROMPT.to_vec(), {
        let hidden = model.layers[0].output.value();
        stop!(model.layers[0].output);
        hidden
    });
    let plain = trace!(model, PROMPT.to_vec(), { model.layers[0].output });
    assert!(identical(&hidden.unwrap(), &plain.unwrap()));
    let error = trace!(model, PROMPT.to_vec(), {
        stop!(model.layers[0].output);
        model.layers[1].output
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("never reached: the run of its prompts is stopped at"), "{error}");
}

#[test]
fn a_run_is_stopped_in_the_branch_that_is_run() {
    let model = tiny_llama();
    let run = |threshold: f64| {
        trace!(model, PROMPT.to_vec(), {
            let h = model.layers[0].output;
            if h.max_all().gt(threshold) {
                stop!(model.layers[0].output);
            }
            (h, model.lm_head.output)
        })
    };
    assert!(identical(&run(1e9).unwrap().1, &logits()));
    let error = run(-1e9).unwrap_err().to_string();
    assert!(error.contains("never reached"), "{error}");
}

#[test]
fn an_edited_view_leaves_the_model_alone() {
    let model = tiny_llama();
    let ablated = edit!(model, { model.layers[1].mlp.output = 0.0 }).unwrap();
    let steered = edit!(ablated, {
        let h = ablated.layers[0].output;
        ablated.layers[0].output = h * 0.5 + 0.1;
    })
    .unwrap();
    let by_hand = trace!(model, PROMPT.to_vec(), {
        model.layers[0].output = model.layers[0].output * 0.5 + 0.1;
        model.layers[1].mlp.output = 0.0;
        model.lm_head.output
    })
    .unwrap();
    assert!(identical(&trace!(steered, PROMPT.to_vec(), { steered.lm_head.output }).unwrap(), &by_hand));
    assert!(!identical(&trace!(ablated, PROMPT.to_vec(), { ablated.lm_head.output }).unwrap(), &by_hand));
    assert!(identical(&trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap(), &logits()));
    // What a trace reads has the edit; where it reads nothing behind it, the edit does not matter.
    let (mlp, before) = trace!(ablated, PROMPT.to_vec(), { (ablated.layers[1].mlp.output, ablated.layers[0].output) }).unwrap();
    assert!(numbers(&mlp).iter().all(|&x| x == 0.0));
    assert!(identical(&before, &trace!(model, PROMPT.to_vec(), { model.layers[0].output }).unwrap()));
    assert_eq!(ablated.depth(), 3, "the view derefs to the model");
}

#[test]
fn edits_hold_for_every_prompt_and_step() {
    let model = tiny_llama();
    let view = edit!(model, { model.layers[1].output.at(Seq, -1) *= -1.0 }).unwrap();
    let (by_view, list) = generate!(view, max_new_tokens = 4, {
        let a = invoke!(PROMPT.to_vec(), { view.tokens() });
        let b = invoke!(vec![9, 2, 33], { view.tokens() });
        (a, b)
    })
    .unwrap();
    for (prompt, found) in [(PROMPT.to_vec(), by_view), (vec![9, 2, 33], list)] {
        let by_hand = generate!(model, prompt, max_new_tokens = 4, {
            for step in model.steps(..) {
                step.layers[1].output.at(Seq, -1) *= -1.0;
            }
            model.tokens()
        });
        assert_eq!(difference(&found, &by_hand.unwrap()), 0.0);
    }
}

#[test]
fn edits_are_listed_stored_cleared_and_made_in_place() {
    let mut model = Llama::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap();
    let direction = Tensor::<Dynamic, (Hidden,)>::new(Candle::new(vec![0.25f32; 32], &Device::Cpu).unwrap()).unwrap();
    let mut edits = edit!(model, { model.layers[1].output += &direction }).unwrap().into_edits();
    let second = edit!(model, { model.layers[0].self_attn.skip(0.0) }).unwrap().into_edits();
    second.iter().for_each(|edit| edits.push(edit.clone()));
    assert_eq!(edits.len(), 2);
    let text = edits.to_string();
    assert!(text.contains("set layers.1.output of 0 = ") && text.contains("skip layers.0.self_attn.output of 0 = 0"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edits.json");
    edits.save(&file).unwrap();
    let read = Edits::load(&file).unwrap();
    assert_eq!(read, edits);
    let view = Edited::with(&model, read);
    let by_view = trace!(view, PROMPT.to_vec(), { view.lm_head.output }).unwrap();
    let view = Edited::with(&model, Edits::default());
    assert!(identical(&trace!(view, PROMPT.to_vec(), { view.lm_head.output }).unwrap(), &logits()));

    *model.edits_mut() = edits;
    assert!(identical(&trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap(), &by_view));
    model.edits_mut().clear();
    assert!(model.edits().is_empty());
    assert!(identical(&trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap(), &logits()));
    std::fs::write(&file, "{}").unwrap();
    assert!(Edits::load(&file).is_err());
}

#[test]
fn what_has_no_place_in_an_edit_is_refused() {
    let model = tiny_llama();
    let error = edit!(model, { stop!(model.layers[0].output) }).unwrap_err().to_string();
    assert!(error.contains("it cannot end a run"), "{error}");
    let error = edit!(model, {
        let loss = model.lm_head.output.sum_all();
        model.layers[0].output.grad(loss) = 0.0;
    });
    assert!(error.unwrap_err().to_string().contains("no gradients"));
}

#[test]
fn weights_are_sites() {
    let model = tiny_llama();
    let (weight, untouched, edited) = trace!(model, {
        let untouched = invoke!(PROMPT.to_vec(), { model.lm_head.output });
        let (weight, edited) = invoke!(PROMPT.to_vec(), {
            let weight = model.layers[1].mlp.down_proj.weight.value();
            model.layers[1].mlp.down_proj.weight = 0.0;
            (weight, model.layers[1].mlp.output)
        });
        (weight, untouched, edited)
    })
    .unwrap();
    assert_eq!(weight.dims(), [48, 32]);
    assert!(difference(&untouched, &logits()) < 1e-5, "a weight is edited for its own prompts only");
    // What is left of the product is its bias, the same at every position.
    assert!((1..6).all(|position| identical(&edited.at(Seq, position), &edited.at(Seq, 0))));
    let product = trace!(model, PROMPT.to_vec(), {
        let weight = model.layers[1].mlp.gate_proj.weight;
        (model.layers[1].mlp.gate_proj.input.matmul(weight), model.layers[1].mlp.gate_proj.output)
    });
    assert!(difference(&product.as_ref().unwrap().0, &product.as_ref().unwrap().1) < 1e-5);
}

#[test]
fn a_list_of_positions_is_assigned() {
    let model = tiny_llama();
    let (before, read, after) = trace!(model, PROMPT.to_vec(), {
        let before = model.layers[1].output.value();
        let read = model.layers[1].output.select(Seq, [0, -1]).value();
        model.layers[1].output.select(Seq, [1, -2]) = 0.0;
        model.layers[1].output.select(Seq, vec![0usize]) *= 2.0;
        (before, read, model.layers[1].output)
    })
    .unwrap();
    assert!(identical(&read.at(Part(Seq), 0), &before.at(Seq, 0)) && identical(&read.at(Part(Seq), 1), &before.at(Seq, 5)));
    for position in 0..6 {
        let factor = [2.0, 0.0, 1.0, 1.0, 0.0, 1.0][position as usize];
        assert_eq!(difference(&after.at(Seq, position), &(&*before.at(Seq, position) * factor).unwrap()), 0.0);
    }
    // Indices that do not exist.
    let outside = trace!(model, PROMPT.to_vec(), { model.layers[1].output.select(Seq, [6]) }).unwrap_err().to_string();
    assert!(outside.contains("editing.rs:") && outside.contains("outside of an axis of 6 entries"), "{outside}");
    let outside = trace!(model, PROMPT.to_vec(), {
        model.layers[1].output.select(Seq, [-7]) = 0.0;
        model.lm_head.output
    });
    assert!(outside.unwrap_err().to_string().contains("index -7 lies outside"));
    // A traced list of indices.
    let (chosen, after) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output;
        let chosen = h.norm(Hidden).argmax(Seq);
        model.layers[1].output.select(Seq, chosen.rename(Batch, Stacked)) = 9.0;
        (chosen, model.layers[1].output)
    })
    .unwrap();
    let position = chosen.to_vec1::<i64>().unwrap()[0];
    assert!(numbers(&after.at(Seq, position)).iter().all(|&x| x == 9.0));
}

#[test]
fn a_mask_is_assigned() {
    let model = tiny_llama();
    let (before, after, halved) = trace!(model, PROMPT.to_vec(), {
        let before = model.layers[1].mlp.gate_proj.output.value();
        model.layers[1].mlp.gate_proj.output.masked(before.lt(0.0)) = 0.0;
        let after = model.layers[1].mlp.gate_proj.output.value();
        model.layers[1].mlp.gate_proj.output.masked(before.at(Seq, 0).at(Batch, 0).gt(0.0)) *= 0.5;
        (before, after, model.layers[1].mlp.gate_proj.output)
    })
    .unwrap();
    for (before, after) in numbers(&before).iter().zip(numbers(&after)) {
        assert_eq!(after, before.max(0.0));
    }
    let first = numbers(&before.at(Seq, 0));
    for (index, (after, halved)) in numbers(&after).iter().zip(numbers(&halved)).enumerate() {
        let factor = if first[index % 48] > 0.0 { 0.5 } else { 1.0 };
        assert!((halved - after * factor).abs() < 1e-7);
    }
}

#[test]
fn functions_of_the_program_are_applied() {
    let model = tiny_llama();
    let (rounded, sums, input) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        let rounded = h.apply((Batch, Seq, Hidden), |h| h.round());
        let sums = h.apply_with(rounded, (Batch, Hidden), |h, rounded| (h + rounded)?.sum(1));
        model.layers[1].input = rounded;
        (rounded, sums, model.layers[1].input)
    })
    .unwrap();
    assert!(numbers(&rounded).iter().all(|x| x.fract() == 0.0) && identical(&rounded, &input));
    assert_eq!(sums.dims(), [1, 32]);
    // What the function declares is held against what it gives.
    let error = trace!(model, PROMPT.to_vec(), { model.layers[0].output.apply((Batch, Hidden), |h| h.sum(2)) }).unwrap_err().to_string();
    assert!(error.contains("declared to give"), "{error}");
    // And it cannot be sent.
    let graph = graph!(model, PROMPT.to_vec(), { model.layers[0].output.apply((Batch, Seq, Hidden), |h| h.round()) }).unwrap();
    let error = graph.to_json().unwrap_err().to_string();
    assert!(error.contains("a closure (`apply`)"), "{error}");
}

struct Threshold;

impl nnsight::graph::Operation for Threshold {
    fn name(&self) -> &str {
        "tests.threshold"
    }
    fn facts(&self, args: &[nnsight::graph::Facts], parameters: &[f64]) -> Result<nnsight::graph::Facts, String> {
        match parameters {
            [_] => Ok(args[0].clone()),
            _ => Err("`tests.threshold` takes one number".into()),
        }
    }
    fn compute(&self, args: &[Candle], parameters: &[f64]) -> nnsight::candle_core::Result<Candle> {
        args[0].ge(parameters[0])?.where_cond(&args[0], &args[0].zeros_like()?)
    }
}

#[test]
fn named_operations_are_stored_and_found_again() {
    nnsight::graph::register(std::sync::Arc::new(Threshold));
    let model = tiny_llama();
    let graph = graph!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        (h, h.operation("tests.threshold", &[0.1], (Batch, Seq, Hidden)))
    })
    .unwrap();
    let sent = Graph::from_json(&graph.to_json().unwrap()).unwrap();
    let found = nnsight::trace::Traceable::execute(model, sent).unwrap();
    for (before, after) in numbers(&found[0]).iter().zip(numbers(&found[1])) {
        assert_eq!(after, if *before >= 0.1f32.into() { *before } else { 0.0 });
    }
    let says = |result: Result<Tensor<Dynamic, (Batch, Seq, Hidden)>, nnsight::TraceError>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    says(
        trace!(model, PROMPT.to_vec(), { model.layers[0].output.operation("tests.treshold", &[0.1], (Batch, Seq, Hidden)) }),
        "no operation is registered as `tests.treshold`; there is `tests.threshold`",
    );
    says(trace!(model, PROMPT.to_vec(), { model.layers[0].output.operation("tests.threshold", &[], (Batch, Seq, Hidden)) }), "takes one number");
    let error = trace!(model, PROMPT.to_vec(), { model.layers[0].output.operation("tests.threshold", &[0.1], (Batch, Hidden)) });
    assert!(error.unwrap_err().to_string().contains("is declared to give (Batch, Hidden)"));
}

#[test]
fn position_ids_and_masks_are_sites() {
    let model = tiny_llama();
    let (positions, mask, shifted) = trace!(model, PROMPT.to_vec(), {
        let attention = model.layers[0].self_attn;
        let positions = attention.position_ids.value();
        let mask = attention.attention_mask.value();
        // Rotary positions are relative: shifting all of them changes nothing.
        attention.position_ids = positions + 7;
        (positions, mask, attention.output)
    })
    .unwrap();
    assert_eq!(numbers(&positions), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!(numbers(&mask).iter().enumerate().all(|(index, &x)| (x == 0.0) == (index % 6 <= index / 6)));
    let plain = trace!(model, PROMPT.to_vec(), { model.layers[0].self_attn.output }).unwrap();
    assert!(difference(&shifted, &plain) < 1e-4);
    // Knocking out what the last position sees of the first.
    let pattern = trace!(model, PROMPT.to_vec(), {
        model.layers[0].self_attn.attention_mask.at(Query, -1).at(Key, 0) = -1e9;
        model.layers[0].self_attn.pattern
    });
    let pattern = pattern.unwrap().at(Query, -1).to_vec3::<f32>().unwrap();
    assert!(pattern[0].iter().all(|head| head[0] == 0.0 && head[1] > 0.0));
    let gpt2 = tiny_gpt2();
    let positions = trace!(gpt2, PROMPT.to_vec(), { gpt2.transformer.wpe.input }).unwrap();
    assert_eq!(numbers(&positions), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn one_position_is_spread_over_many_only_if_the_program_says_so() {
    let model = tiny_llama();
    let short = trace!(model, vec![3], { model.layers[0].output }).unwrap();
    let refused = [
        trace!(model, PROMPT.to_vec(), {
            model.layers[0].output = &short;
            model.lm_head.output
        }),
        trace!(model, PROMPT.to_vec(), {
            model.layers[0].output += &short;
            model.lm_head.output
        }),
        trace!(model, PROMPT.to_vec(), { model.lm_head(model.layers[0].output - &short) }),
    ];
    for error in refused.map(|result| result.unwrap_err().to_string()) {
        assert!(error.contains("`Seq` has one entry, and is not spread over the Seq = 6") && error.contains("expand(Seq)"), "{error}");
    }
    let (first, h, stream) = trace!(model, PROMPT.to_vec(), {
        let first = model.layers[0].output.at(Seq, 0);
        model.layers[1].output = first.expand(Seq);
        model.layers[2].output = model.layers[2].output.mean_keepdim(Seq);
        (first, model.layers[1].output, model.layers[2].output)
    })
    .unwrap();
    for position in 0..6 {
        assert!(identical(&h.at(Seq, position), &first) && identical(&stream.at(Seq, position), &stream.at(Seq, 0)));
    }
}

#[test]
fn booleans_of_all_entries_and_ranges_of_layers() {
    let model = tiny_llama();
    let (all, any, none, paths) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        let paths = model.layers[1..].iter().map(|layer| layer.output.path()).collect::<Vec<_>>();
        assert_eq!((model.layers[..2].len(), model.layers[-1..].len(), model.layers[0..=1].len()), (2, 1, 2));
        (h.ge(-1e9).all(), h.gt(0.0).any(), h.gt(0.0).all(), vec![model.layers[1].output; paths.len()])
    })
    .unwrap();
    assert_eq!((all.to_scalar::<u8>().unwrap(), any.to_scalar::<u8>().unwrap(), none.to_scalar::<u8>().unwrap(), paths.len()), (1, 1, 0, 2));
    let outside = trace!(model, PROMPT.to_vec(), { model.layers[1..7].iter().map(|layer| layer.output).collect::<Vec<_>>() });
    assert!(outside.unwrap_err().to_string().contains("no layer 6"));
}
