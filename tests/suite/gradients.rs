//! Gradients: against finite differences, through edits, of several losses, edited on their way; and those that cannot arrive.

use nnsight::candle_core::Tensor as Candle;
use nnsight::models::integrated_gradients;
use nnsight::prelude::*;

use crate::shared::{difference, folder, numbers, relative, tiny_gpt2, tiny_llama};

const PROMPT: [u32; 5] = [3, 17, 5, 40, 22];

fn wide_llama() -> Llama<Dynamic> {
    Llama::load(Source::from(folder("tests/reference/llama")).dtype(DType::F64)).unwrap()
}

/// The change of a loss for a small change of single entries, by central differences.
fn finite(loss: impl Fn(&Candle) -> f64, shape: &[usize], entries: &[usize]) -> Vec<f64> {
    let count = shape.iter().product::<usize>();
    let at = |entry: usize, by: f64| {
        let mut change = vec![0f64; count];
        change[entry] = by;
        loss(&Candle::from_vec(change, shape, &Device::Cpu).unwrap())
    };
    entries.iter().map(|&entry| (at(entry, 1e-4) - at(entry, -1e-4)) / 2e-4).collect()
}

fn check(gradient: &Candle, expected: &[f64], entries: &[usize], name: &str) {
    let gradient = numbers(gradient);
    for (&entry, expected) in entries.iter().zip(expected) {
        let found = gradient[entry];
        assert!((found - expected).abs() < 1e-6 * expected.abs().max(1e-2), "{name}: {found} for {expected} at {entry}");
    }
}

#[test]
fn every_site_of_a_llama_has_the_gradient_of_finite_differences() {
    let model = &wide_llama();
    macro_rules! sites {
        ($($name:literal: $shape:ty, $dims:expr, |$block:ident| $site:expr;)+) => {$(
            let entries = [0, 7, 23, 31];
            let gradient = trace!(model, PROMPT.to_vec(), {
                let $block = model.layers[1];
                let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 5).sum_all();
                $site.grad(loss)
            })
            .unwrap();
            let loss = |change: &Candle| {
                let change = Tensor::<Dynamic, $shape>::new(change.clone()).unwrap();
                let loss = trace!(model, PROMPT.to_vec(), {
                    let $block = model.layers[1];
                    $site.__assign($site + &change);
                    model.lm_head.output.at(Seq, -1).pick(Vocab, 5).sum_all()
                });
                loss.unwrap().to_scalar::<f64>().unwrap()
            };
            check(&gradient, &finite(loss, &$dims, &entries), &entries, $name);
        )+};
    }
    sites! {
        "input": (Batch, Seq, Hidden), [1, 5, 32], |block| block.input;
        "norm": (Batch, Seq, Hidden), [1, 5, 32], |block| block.input_layernorm.output;
        "q": (Batch, Heads, Seq, HeadDim), [1, 4, 5, 8], |block| block.self_attn.q;
        "k": (Batch, KvHeads, Seq, HeadDim), [1, 2, 5, 8], |block| block.self_attn.k;
        "v": (Batch, KvHeads, Seq, HeadDim), [1, 2, 5, 8], |block| block.self_attn.v;
        "q_rot": (Batch, Heads, Seq, HeadDim), [1, 4, 5, 8], |block| block.self_attn.q_rot;
        "pattern": (Batch, Heads, Query, Key), [1, 4, 5, 5], |block| block.self_attn.pattern;
        "z": (Batch, Heads, Seq, HeadDim), [1, 4, 5, 8], |block| block.self_attn.z;
        "resid_mid": (Batch, Seq, Hidden), [1, 5, 32], |block| block.resid_mid;
        "gate": (Batch, Seq, Mlp), [1, 5, 48], |block| block.mlp.gate_proj.output;
        "act": (Batch, Seq, Mlp), [1, 5, 48], |block| block.mlp.act;
        "mlp": (Batch, Seq, Hidden), [1, 5, 32], |block| block.mlp.output;
        "output": (Batch, Seq, Hidden), [1, 5, 32], |block| block.output;
        "weight": (Mlp, Hidden), [48, 32], |block| block.mlp.down_proj.weight;
        "norm weight": (Hidden,), [32], |block| block.post_attention_layernorm.weight;
    }
}

#[test]
fn a_gpt2_has_the_gradient_of_finite_differences() {
    let model = &Gpt2::<Dynamic>::load(Source::from(folder("tests/reference/gpt2")).dtype(DType::F64)).unwrap();
    let entries = [0, 9, 33, 70];
    let (embed, bias) = trace!(model, PROMPT.to_vec(), {
        let loss = model.lm_head.output.at(Seq, -1).log_softmax(Vocab).pick(Vocab, 5).sum_all();
        (model.transformer.embed.grad(loss), model.transformer.h[1].ln_2.bias.grad(loss))
    })
    .unwrap();
    let loss = |change: &Candle| {
        let change = Tensor::<Dynamic, (Batch, Seq, Hidden)>::new(change.clone()).unwrap();
        let loss = trace!(model, PROMPT.to_vec(), {
            model.transformer.embed += &change;
            model.lm_head.output.at(Seq, -1).log_softmax(Vocab).pick(Vocab, 5).sum_all()
        });
        loss.unwrap().to_scalar::<f64>().unwrap()
    };
    check(&embed, &finite(loss, &[1, 5, 32], &entries), &entries, "embed");
    let loss = |change: &Candle| {
        let change = Tensor::<Dynamic, (Hidden,)>::new(change.clone()).unwrap();
        let loss = trace!(model, PROMPT.to_vec(), {
            model.transformer.h[1].ln_2.bias += &change;
            model.lm_head.output.at(Seq, -1).log_softmax(Vocab).pick(Vocab, 5).sum_all()
        });
        loss.unwrap().to_scalar::<f64>().unwrap()
    };
    check(&bias, &finite(loss, &[32], &[0, 5]), &[0, 5], "bias");
}

#[test]
fn a_vector_added_to_a_site_can_be_trained() {
    let model = tiny_llama();
    let mut vector = Tensor::<Dynamic, (Hidden,)>::new(Candle::zeros(32, DType::F32, &Device::Cpu).unwrap()).unwrap();
    let mut losses = Vec::new();
    for _ in 0..30 {
        let (loss, gradient) = trace!(model, PROMPT.to_vec(), {
            let vector = vector.traced(model.layers[0].output);
            model.layers[0].output += vector;
            let loss = -model.lm_head.output.at(Seq, -1).log_softmax(Vocab).pick(Vocab, 11).sum_all();
            (loss, vector.grad(loss))
        })
        .unwrap();
        losses.push(loss.to_scalar::<f32>().unwrap());
        vector = Tensor::new((&*vector - (&*gradient * 5.0).unwrap()).unwrap()).unwrap();
    }
    assert!(losses[29] < losses[0] - 1.0, "{losses:?}");
}

#[test]
fn several_losses_have_their_own_gradients() {
    let model = tiny_llama();
    let (first, second, both) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        let logits = model.lm_head.output.at(Seq, -1);
        let (a, b) = (logits.pick(Vocab, 3).sum_all(), logits.pick(Vocab, 9).sum_all());
        (h.grad(a), h.grad(b), h.grad(a * 2.0 + b))
    })
    .unwrap();
    let sum = ((&*first * 2.0).unwrap() + &*second).unwrap();
    assert!(relative(&both, &sum) < 1e-5);
    assert!(difference(&first, &second) > 1e-4);
}

#[test]
fn edits_on_the_way_reach_what_lies_further_back() {
    let model = tiny_llama();
    let run = |factor: f64| {
        trace!(model, PROMPT.to_vec(), {
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3).sum_all();
            let after = model.layers[1].output;
            let before = after.grad(loss).value();
            after.grad(loss) *= factor;
            (before, after.grad(loss), model.layers[0].output.grad(loss))
        })
        .unwrap()
    };
    let ((plain, _, back), (same, scaled, scaled_back)) = (run(1.0), run(3.0));
    assert!(relative(&same, &plain) < 1e-6, "read before the edit");
    assert!(relative(&scaled, &(&*plain * 3.0).unwrap()) < 1e-5);
    assert!(relative(&scaled_back, &(&*back * 3.0).unwrap()) < 1e-5);
}

#[test]
fn a_gradient_can_be_replaced_in_part() {
    let model = tiny_llama();
    let (whole, part, back) = trace!(model, PROMPT.to_vec(), {
        let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3).sum_all();
        model.layers[1].output.at(Seq, -1).grad(loss) = 0.0;
        let h = model.layers[1].output;
        (h.grad(loss), h.at(Seq, 0).grad(loss), model.layers[0].output.grad(loss))
    })
    .unwrap();
    assert!(numbers(&whole.at(Seq, -1)).iter().all(|&x| x == 0.0));
    assert!(numbers(&whole.at(Seq, 0)).iter().any(|&x| x != 0.0));
    assert_eq!(difference(&part, &whole.at(Seq, 0)), 0.0);
    // The last position's only way was through itself.
    assert!(numbers(&back.at(Seq, -1)).iter().all(|&x| x == 0.0));
}

#[test]
fn prompts_have_their_own_gradients_in_one_batch() {
    let model = tiny_llama();
    let long = [9u32, 2, 33, 4, 5, 60, 7];
    let alone = |prompt: &[u32]| {
        trace!(model, prompt.to_vec(), {
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
            model.layers[0].output.grad(loss)
        })
        .unwrap()
    };
    let (a, b) = trace!(model, {
        let a = invoke!(PROMPT.to_vec(), {
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
            model.layers[0].output.grad(loss)
        });
        let b = invoke!(long.to_vec(), {
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
            model.layers[0].output.grad(loss)
        });
        (a, b)
    })
    .unwrap();
    assert!(relative(&a, &alone(&PROMPT)) < 1e-5);
    assert!(relative(&b, &alone(&long)) < 1e-5);
}

#[test]
fn a_gradient_flows_between_prompts() {
    let model = tiny_llama();
    let (through, copied) = trace!(model, {
        let source = invoke!(PROMPT.to_vec(), { model.layers[0].output.value() });
        invoke!(PROMPT.to_vec(), {
            model.layers[1].output = source;
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
            (source.grad(loss), model.layers[1].output.grad(loss))
        })
    })
    .unwrap();
    assert!(relative(&through, &copied) < 1e-6 && numbers(&through).iter().any(|&x| x != 0.0));
}

#[test]
fn a_gradient_goes_through_the_steps_of_a_generation() {
    let model = &wide_llama();
    // The last step sees the prompt through its keys and values.
    let gradient = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, min_new_tokens = 3, {
        let loss = model.step(2).lm_head.output.at(Seq, -1).pick(Vocab, 3).sum_all();
        model.prompt().layers[0].output.grad(loss)
    })
    .unwrap();
    let loss = |change: &Candle| {
        let change = Tensor::<Dynamic, (Batch, Seq, Hidden)>::new(change.clone()).unwrap();
        let loss = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, min_new_tokens = 3, {
            model.prompt().layers[0].output += &change;
            model.step(2).lm_head.output.at(Seq, -1).pick(Vocab, 3).sum_all()
        });
        loss.unwrap().to_scalar::<f64>().unwrap()
    };
    let entries = [0, 40, 77, 150];
    check(&gradient, &finite(loss, &[1, 5, 32], &entries), &entries, "step 2");
}

#[test]
fn gradients_that_cannot_arrive_are_refused_before_anything_runs() {
    let model = tiny_llama();
    let says = |result: Result<Tensor<Dynamic, (Batch, Seq, Hidden)>, nnsight::TraceError>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("gradients.rs:"), "{error}");
    };
    says(
        trace!(model, PROMPT.to_vec(), {
            let loss = model.layers[0].output.sum_all();
            model.layers[1].output.grad(loss)
        }),
        "the loss does not depend on this value",
    );
    says(
        trace!(model, PROMPT.to_vec(), {
            let loss = model.lm_head.output.argmax(Vocab).cast::<Float>().sum_all();
            model.layers[1].output.grad(loss)
        }),
        "stands an operation that has none (`argmax`)",
    );
    says(
        trace!(model, PROMPT.to_vec(), {
            let before = model.layers[1].output.value();
            model.layers[1].output = 0.0;
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
            before.grad(loss)
        }),
        "the loss does not depend on this value",
    );
}

#[test]
fn an_edit_of_a_gradient_that_nothing_sees_is_refused() {
    let model = tiny_llama();
    let error = trace!(model, PROMPT.to_vec(), {
        let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
        model.layers[1].output.grad(loss) *= 2.0;
        loss
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("has no effect"), "{error}");
}

#[test]
fn an_edited_gradient_reaches_its_own_reading_in_one_layer_only_in_order() {
    let model = tiny_llama();
    // The gradient of an earlier layer exists later: what is set from it comes too late.
    let error = trace!(model, PROMPT.to_vec(), {
        let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
        let early = model.layers[0].output.grad(loss).value();
        model.layers[1].output.grad(loss) = early;
        model.embed_tokens.output.grad(loss)
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("comes into being later"), "{error}");
}

#[test]
fn what_is_computed_from_gradients_is_a_value_like_any_other() {
    let model = tiny_llama();
    // Attribution patching (Nanda 2023): the gradient times the difference of two prompts' activations.
    let attribution = trace!(model, {
        let clean = invoke!(PROMPT.to_vec(), { model.layers[1].output.value() });
        invoke!(vec![3, 17, 6, 40, 22], {
            let h = model.layers[1].output;
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
            (h.grad(loss) * (clean - h)).sum(Hidden)
        })
    })
    .unwrap();
    assert_eq!(attribution.dims(), [1, 5]);
    let values = numbers(&attribution);
    assert!(values[..2].iter().all(|x| x.abs() < 1e-7) && values[2].abs() > 1e-7, "the prompts differ from the third token on: {values:?}");
}

#[test]
fn a_gradient_can_steer_a_later_prompt() {
    let model = tiny_llama();
    let (before, after) = trace!(model, {
        let (gradient, before) = invoke!(PROMPT.to_vec(), {
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
            (model.layers[0].output.grad(loss).value(), loss)
        });
        let after = invoke!(PROMPT.to_vec(), {
            model.layers[0].output += gradient * 0.5;
            model.lm_head.output.at(Seq, -1).pick(Vocab, 3)
        });
        (before, after)
    })
    .unwrap();
    assert!(numbers(&after)[0] > numbers(&before)[0]);
}

#[test]
fn integrated_gradients_add_up() {
    let llama = &wide_llama();
    let logit = |factor: f64| {
        let logit = trace!(llama, PROMPT.to_vec(), {
            llama.embed_tokens.output *= factor;
            llama.lm_head.output.at(Seq, -1).pick(Vocab, 5)
        });
        numbers(&logit.unwrap())[0]
    };
    let attribution = integrated_gradients(llama, PROMPT.to_vec(), 1024, |logits| logits.pick(Vocab, 5)).unwrap();
    assert_eq!(attribution.dims(), [1, 5, 32]);
    let (sum, expected) = (numbers(&attribution).iter().sum::<f64>(), logit(1.0) - logit(1e-6));
    assert!((sum - expected).abs() < 0.05 * expected.abs().max(0.1), "{sum} for {expected}");
    // On another architecture, for two prompts at once.
    let attribution = integrated_gradients(tiny_gpt2(), vec![PROMPT.to_vec(), PROMPT.to_vec()], 4, |logits| logits.pick(Vocab, 5)).unwrap();
    assert_eq!(difference(&attribution.get(0).unwrap(), &attribution.get(1).unwrap()), 0.0);
}

#[test]
fn the_differentiable_way_gives_what_the_fast_one_gives() {
    let model = tiny_llama();
    let fast = trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap();
    let slow = trace!(model, PROMPT.to_vec(), {
        let loss = model.lm_head.output.sum_all();
        (model.lm_head.output, model.embed_tokens.output.grad(loss))
    });
    assert!(difference(&slow.unwrap().0, &fast) < 1e-5);
}
