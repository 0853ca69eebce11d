//! Several prompts: all of them side by side, sessions, embeddings and masks in place of tokens.

use nnsight::prelude::*;

use crate::shared::{difference, identical, numbers, tiny_gpt2, tiny_llama};

const A: [u32; 4] = [3, 17, 5, 40];
const B: [u32; 4] = [9, 2, 33, 4];

#[test]
fn a_block_without_a_prompt_sees_all_of_them() {
    let model = tiny_llama();
    let (a, b, all, pair) = trace!(model, {
        let a = invoke!(A.to_vec(), { model.layers[2].output });
        let b = invoke!(B.to_vec(), { model.layers[2].output });
        let all = invoke!({ model.layers[2].output });
        let pair = invoke!({ model.layers[2].output.mean(Batch) });
        (a, b, all, pair)
    })
    .unwrap();
    assert_eq!(all.dims(), [2, 4, 32]);
    assert!(identical(&all.at(Batch, 0), &a.at(Batch, 0)) && identical(&all.at(Batch, 1), &b.at(Batch, 0)));
    assert_eq!(pair.dims(), [4, 32]);
}

#[test]
fn an_edit_of_all_prompts_reaches_each() {
    let model = tiny_llama();
    let (a, b) = trace!(model, {
        let a = invoke!(A.to_vec(), { model.lm_head.output });
        let b = invoke!(B.to_vec(), {
            model.layers[0].output.at(Seq, 0) = 0.0;
            model.lm_head.output
        });
        invoke!({
            model.layers[1].output *= -1.0;
        });
        (a, b)
    })
    .unwrap();
    for (prompt, edited, found) in [(A, false, a), (B, true, b)] {
        let alone = trace!(model, prompt.to_vec(), {
            if edited {
                model.layers[0].output.at(Seq, 0) = 0.0;
            }
            model.layers[1].output *= -1.0;
            model.lm_head.output
        });
        assert!(difference(&found, &alone.unwrap()) < 1e-5);
    }
}

#[test]
fn all_prompts_generate_side_by_side() {
    let model = tiny_llama();
    let (a, all, steps) = generate!(model, max_new_tokens = 3, {
        let a = invoke!(A.to_vec(), { model.tokens() });
        invoke!(B.to_vec(), {
            let _ = model.tokens();
        });
        let (all, steps) = invoke!({ (model.tokens(), model.steps(..).map(|step| step.layers[0].output)) });
        (a, all, steps)
    })
    .unwrap();
    assert_eq!(all.dims(), [2, 3]);
    assert_eq!(difference(&all.get(0).unwrap(), &a.get(0).unwrap()), 0.0);
    assert_eq!(steps.iter().map(|step| step.dims().to_vec()).collect::<Vec<_>>(), [[2, 4, 32], [2, 1, 32], [2, 1, 32]]);
}

#[test]
fn embeddings_stand_in_for_tokens() {
    let llama = tiny_llama();
    let embeddings = trace!(llama, A.to_vec(), { llama.embed_tokens.output.at(Batch, 0) }).unwrap();
    let (by_embeddings, by_tokens) = trace!(llama, {
        let by_embeddings = invoke!(&embeddings, { llama.lm_head.output });
        let by_tokens = invoke!(vec![1, 2, 3, 4, 5, 6], { llama.lm_head.output });
        (by_embeddings, by_tokens)
    })
    .unwrap();
    let expected = trace!(llama, A.to_vec(), { llama.lm_head.output }).unwrap();
    assert!(difference(&by_embeddings, &expected) < 1e-5);
    let expected = trace!(llama, vec![1, 2, 3, 4, 5, 6], { llama.lm_head.output }).unwrap();
    assert!(difference(&by_tokens, &expected) < 1e-5);
    let gpt2 = tiny_gpt2();
    let embeddings = trace!(gpt2, A.to_vec(), { gpt2.transformer.wte.output.at(Batch, 0) }).unwrap();
    let found = trace!(gpt2, &embeddings, { gpt2.lm_head.output }).unwrap();
    assert!(identical(&found, &trace!(gpt2, A.to_vec(), { gpt2.lm_head.output }).unwrap()));
    let narrow = Tensor::<Dynamic, (Seq, Hidden)>::new(embeddings.narrow(1, 0, 8).unwrap()).unwrap();
    assert!(trace!(gpt2, &narrow, { gpt2.lm_head.output }).unwrap_err().to_string().contains("(Seq, Hidden = 32)"));
}

#[test]
fn hidden_tokens_are_not_seen() {
    let model = tiny_llama();
    let hidden = Prompt::masked(&A, &[true, false, true, true]);
    let (pattern, logits) = trace!(model, hidden.clone(), { (model.layers[0].self_attn.pattern, model.lm_head.output) }).unwrap();
    let rows = pattern.at(Batch, 0).at(Heads, 0).to_vec2::<f32>().unwrap();
    assert!(rows[2][1] == 0.0 && rows[3][1] == 0.0 && rows[1][1] > 0.0, "a hidden token sees itself: {rows:?}");
    // What stands at the hidden place does not matter.
    let other = trace!(model, Prompt::masked(&[3, 55, 5, 40], &[true, false, true, true]), { model.lm_head.output }).unwrap();
    assert!(difference(&logits.at(Seq, -1), &other.at(Seq, -1)) < 1e-6);
    // Beside another prompt, and through a generation.
    let (beside, tokens) = generate!(model, max_new_tokens = 3, {
        let beside = invoke!(hidden, { model.steps(..).map(|step| step.lm_head.output.at(Seq, -1)) });
        let tokens = invoke!(vec![9, 2, 33, 4, 5, 6], { model.tokens() });
        (beside, tokens)
    })
    .unwrap();
    assert!(difference(&beside[0], &logits.at(Seq, -1)) < 1e-5);
    assert_eq!(tokens.dims(), [1, 3]);
    let error = trace!(model, Prompt::masked(&A, &[true]), { model.lm_head.output }).unwrap_err().to_string();
    assert!(error.contains("has 4 tokens and a mask for 1"), "{error}");
}

#[test]
fn a_session_carries_values_from_trace_to_trace() {
    let model = tiny_llama();
    let (patched, tokens) = session!(model, {
        let clean = trace!(model, A.to_vec(), { model.layers[1].output });
        let patched = trace!(model, B.to_vec(), {
            model.layers[0].output = clean;
            model.lm_head.output
        });
        let tokens = generate!(model, B.to_vec(), max_new_tokens = 2, {
            model.prompt().layers[0].output = clean * 1.0;
            model.tokens()
        });
        (patched, tokens)
    })
    .unwrap();
    let clean = trace!(model, A.to_vec(), { model.layers[1].output }).unwrap();
    let by_hand = trace!(model, B.to_vec(), {
        model.layers[0].output = &clean;
        model.lm_head.output
    });
    assert!(difference(&patched, &by_hand.unwrap()) < 1e-5);
    assert_eq!(tokens.dims(), [1, 2]);
}

#[test]
fn traces_of_a_session_go_round_in_plain_loops() {
    let model = tiny_llama();
    // What one trace gives goes into the next, as often as the loop goes round.
    let norms = session!(model, {
        let mut carried = trace!(model, A.to_vec(), { model.layers[0].output.value() });
        let mut norms = Vec::new();
        for round in 0..4 {
            if round == 3 {
                break;
            }
            carried = trace!(model, A.to_vec(), {
                model.layers[0].input = carried;
                model.layers[0].output.value()
            });
            norms.push(carried.norm_all());
        }
        norms
    })
    .unwrap();
    assert_eq!(norms.len(), 3);
    let grouped = session!(model, {
        trace!(model, {
            let a = invoke!(A.to_vec(), { model.layers[0].output });
            invoke!(B.to_vec(), {
                model.layers[0].output = a;
                model.layers[1].input
            })
        })
    });
    let expected = trace!(model, A.to_vec(), { model.layers[0].output }).unwrap();
    assert!(difference(&grouped.unwrap(), &expected) < 1e-6);
    let by_hand = (0..3).fold(expected, |carried, _| {
        trace!(model, A.to_vec(), {
            model.layers[0].input = &carried;
            model.layers[0].output
        })
        .unwrap()
    });
    let norm = numbers(&by_hand).iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!((numbers(&norms[2])[0] - norm).abs() < 1e-4);
}

#[test]
fn several_threads_trace_one_model_at_once() {
    let model = tiny_llama();
    let run = |factor: f64| {
        trace!(model, A.to_vec(), {
            model.layers[1].output *= factor;
            model.lm_head.output
        })
        .unwrap()
    };
    let expected = [0.5, -1.0, 2.0].map(run);
    let found = std::thread::scope(|scope| [0.5, -1.0, 2.0].map(|factor| scope.spawn(move || run(factor))).map(|thread| thread.join().unwrap()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!(identical(found, expected));
    }
}
