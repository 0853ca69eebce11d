//! Continuing prompts: steps as coordinates, edits for some of them, values from one to the next, and when a text ends.

use nnsight::prelude::*;

use crate::shared::{EIFFEL, difference, identical, numbers, smollm2, tiny_gpt2, tiny_llama};

const PROMPT: [u32; 4] = [3, 17, 5, 40];

fn ids(tokens: &Tensor<Dynamic, (Batch, Seq), Int>) -> Vec<Vec<u32>> {
    tokens.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

/// The same by whole passes over a growing prompt, without keys and values of earlier ones.
fn by_whole_passes(prompt: &[u32], steps: usize) -> (Vec<u32>, Vec<nnsight::candle_core::Tensor>) {
    let model = tiny_llama();
    let mut tokens = prompt.to_vec();
    let mut hidden = Vec::new();
    for _ in 0..steps {
        let (token, h) =
            trace!(model, tokens.clone(), { (model.lm_head.output.at(Seq, -1).argmax(Vocab), model.layers[1].output.at(Seq, -1)) }).unwrap();
        tokens.push(token.to_vec1::<i64>().unwrap()[0] as u32);
        hidden.push(h.into_inner());
    }
    (tokens.split_off(prompt.len()), hidden)
}

#[test]
fn steps_give_what_whole_passes_give() {
    let model = tiny_llama();
    let (expected, hidden) = by_whole_passes(&PROMPT, 6);
    let (tokens, steps) =
        generate!(model, PROMPT.to_vec(), max_new_tokens = 6, { (model.tokens(), model.steps(..).map(|step| step.layers[1].output.at(Seq, -1))) })
            .unwrap();
    assert_eq!(ids(&tokens), [expected]);
    assert_eq!(steps.len(), 6);
    for (step, whole) in steps.iter().zip(&hidden) {
        assert!(difference(step, whole) < 1e-5);
    }
}

#[test]
fn later_steps_have_one_position_and_a_pattern_over_all() {
    let model = tiny_gpt2();
    let (hidden, pattern, keys) = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, {
        let attention = model.step(2).transformer.h[1].attn;
        (model.step(2).transformer.h[0].output, attention.pattern, attention.k)
    })
    .unwrap();
    assert_eq!(hidden.dims(), [1, 1, 32]);
    assert_eq!(pattern.dims(), [1, 4, 1, 6]);
    assert_eq!(keys.dims(), [1, 4, 1, 8]);
    let sums = numbers(&pattern.sum(3).unwrap());
    assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{sums:?}");
}

#[test]
fn prompts_of_different_lengths_give_what_each_gives_alone() {
    let model = tiny_llama();
    let long = [9u32, 2, 33, 4, 5, 60, 7];
    let alone = [PROMPT.to_vec(), long.to_vec()].map(|prompt| {
        generate!(model, prompt, max_new_tokens = 5, { (model.tokens(), model.steps(..).map(|step| step.layers[2].output.at(Seq, -1))) }).unwrap()
    });
    let (tokens, hidden) = generate!(model, vec![PROMPT.to_vec(), long.to_vec()], max_new_tokens = 5, {
        (model.tokens(), model.steps(..).map(|step| step.layers[2].output.at(Seq, -1)))
    })
    .unwrap();
    let (first, second) = generate!(model, max_new_tokens = 5, {
        let first = invoke!(PROMPT.to_vec(), { (model.tokens(), model.step(3).layers[0].self_attn.pattern) });
        let second = invoke!(long.to_vec(), { (model.tokens(), model.step(3).layers[0].self_attn.pattern) });
        (first, second)
    })
    .unwrap();
    assert_eq!(first.1.dims(), [1, 4, 1, 7], "the keys of this prompt, without padding");
    assert_eq!(second.1.dims(), [1, 4, 1, 10]);
    for (row, (alone, invoked)) in alone.iter().zip([first.0, second.0]).enumerate() {
        assert_eq!(ids(&alone.0)[0], ids(&tokens)[row]);
        assert_eq!(ids(&alone.0), ids(&invoked));
        for (alone, together) in alone.1.iter().zip(&hidden) {
            assert!(difference(&alone.get(0).unwrap(), &together.get(row).unwrap()) < 1e-5);
        }
    }
}

#[test]
fn an_edit_at_one_step_stays_in_the_keys_and_values() {
    let model = tiny_llama();
    // Whoever edits layer 0 at step 0 changes what step 1 sees through the attention of layer 1.
    let run = |strength: f64| {
        generate!(model, PROMPT.to_vec(), max_new_tokens = 2, min_new_tokens = 2, {
            model.prompt().layers[0].output.at(Seq, 0) += strength;
            (model.step(1).layers[1].self_attn.scores, model.step(1).layers[0].output)
        })
        .unwrap()
    };
    let ((plain, before), (edited, after)) = (run(0.0), run(3.0));
    assert_eq!(plain.dims(), [1, 4, 1, 5]);
    assert!(difference(&plain.narrow(3, 0, 1).unwrap(), &edited.narrow(3, 0, 1).unwrap()) > 1e-3, "the edited position's keys");
    if identical(&before, &after) {
        assert!(difference(&plain.narrow(3, 1, 3).unwrap(), &edited.narrow(3, 1, 3).unwrap()) < 1e-6, "the others'");
    }
}

#[test]
fn values_flow_from_one_step_to_a_later_one() {
    let model = tiny_llama();
    let (first, third) = generate!(model, PROMPT.to_vec(), max_new_tokens = 4, {
        let h = model.step(1).layers[0].output.value();
        model.step(3).layers[0].output = h;
        (h, model.step(3).layers[0].output)
    })
    .unwrap();
    assert!(identical(&first, &third));
    let error = generate!(model, PROMPT.to_vec(), max_new_tokens = 4, {
        model.step(1).layers[0].output = model.step(3).layers[0].output;
        model.tokens()
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("`layers.0.output at step 3`, which runs after `layers.0.output at step 1`"), "{error}");
}

#[test]
fn next_walks_from_step_to_step() {
    let model = tiny_llama();
    let ((a, b), c) = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, {
        let first = model.step(0).next();
        ((first.layers[1].output, first.next().layers[1].output), model.steps([1, 2]).map(|step| step.layers[1].output))
    })
    .unwrap();
    assert!(identical(&a, &c[0]) && identical(&b, &c[1]) && !identical(&a, &b));
}

#[test]
fn all_ways_to_name_steps() {
    let model = tiny_llama();
    let counts = generate!(model, PROMPT.to_vec(), max_new_tokens = 5, {
        let of = |indices: Vec<usize>| indices;
        let numbers = (
            of(model.steps(..).map(|step| step.index())),
            of(model.steps(2..).map(|step| step.index())),
            of(model.steps(..2).map(|step| step.index())),
            of(model.steps(1..=3).map(|step| step.index())),
            of(model.steps([0, -1]).map(|step| step.index())),
            of(model.steps(4).map(|step| step.index())),
            of(model.steps(vec![1usize, 3]).map(|step| step.index())),
        );
        assert_eq!(numbers, (vec![0, 1, 2, 3, 4], vec![2, 3, 4], vec![0, 1], vec![1, 2, 3], vec![0, 4], vec![4], vec![1, 3]));
        model.tokens()
    })
    .unwrap();
    assert_eq!(counts.dims(), [1, 5]);
}

/// The token that the first step gives, so that a run can be ended by it.
fn first_token() -> u32 {
    by_whole_passes(&PROMPT, 1).0[0]
}

#[test]
fn a_list_of_steps_is_as_long_as_the_run() {
    let model = tiny_llama();
    let (expected, _) = by_whole_passes(&PROMPT, 3);
    let ends = expected[2];
    let stops = expected.iter().position(|&token| token == ends).unwrap() + 1;
    let (tokens, hidden, both) = generate!(model, PROMPT.to_vec(), max_new_tokens = 10, stop_tokens = [ends], {
        let mut hidden = Vec::new();
        for step in model.steps(..) {
            step.layers[0].mlp.output *= 1.0;
            hidden.push(step.layers[1].output.at(Seq, -1));
        }
        (model.tokens(), hidden, model.steps(0..8).map(|step| (step.layers[0].output, step.layers[1].output)))
    })
    .unwrap();
    assert_eq!(ids(&tokens)[0], expected[..stops]);
    assert_eq!((hidden.len(), both.len()), (stops, stops));
}

#[test]
fn a_step_that_never_happens_is_said() {
    let model = tiny_llama();
    let ends = first_token();
    let run = |step: usize| generate!(model, PROMPT.to_vec(), max_new_tokens = 10, stop_tokens = [ends], { model.step(step).layers[0].output });
    assert!(run(0).is_ok());
    let error = run(7).unwrap_err().to_string();
    assert!(error.contains("generation.rs:") && error.contains("step 7 never happened: the run ended after 1 steps"), "{error}");
    let error = generate!(model, PROMPT.to_vec(), max_new_tokens = 10, stop_tokens = [ends], {
        model.step(3).layers[0].output = 0.0;
        model.tokens()
    });
    assert!(error.unwrap_err().to_string().contains("step 3 never happened"));
    // Beyond what there can be, it is refused before anything runs.
    let error = run(10).unwrap_err().to_string();
    assert!(error.contains("there is no step 10: the run has at most 10"), "{error}");
    let error = generate!(model, PROMPT.to_vec(), max_new_tokens = 3, { model.steps(0..5).map(|step| step.layers[0].output) });
    assert!(error.unwrap_err().to_string().contains("there is no step 3"));
}

#[test]
fn a_text_does_not_end_before_it_may() {
    let model = tiny_llama();
    let ends = first_token();
    let run = |least: usize| {
        ids(&generate!(model, PROMPT.to_vec(), max_new_tokens = 6, min_new_tokens = least, stop_tokens = [ends], { model.tokens() }).unwrap())
    };
    assert_eq!(run(0), [[ends]]);
    let later = run(3);
    assert!(later[0].len() >= 3 && !later[0][..3].contains(&ends), "{later:?}");
}

#[test]
fn texts_of_a_batch_end_one_by_one() {
    let model = tiny_llama();
    let ends = first_token();
    let other = [9u32, 2, 33];
    let (expected, _) = by_whole_passes(&other, 4);
    assert!(!expected.contains(&ends), "the example needs two texts of different lengths");
    let tokens = generate!(model, vec![PROMPT.to_vec(), other.to_vec()], max_new_tokens = 4, stop_tokens = [ends], { model.tokens() }).unwrap();
    assert_eq!(ids(&tokens), [vec![ends; 4], expected]);
}

#[test]
fn drawn_tokens_come_from_their_seed_and_not_from_the_batch() {
    let model = tiny_llama();
    let draw = |seed: u64, prompts: Vec<Vec<u32>>| {
        let settings = Generation::default().max_new_tokens(8).temperature(1.5).top_k(20).top_p(0.95).seed(seed);
        ids(&generate!(model, prompts, settings = settings, { model.tokens() }).unwrap())
    };
    let alone = draw(7, vec![PROMPT.to_vec()]);
    assert_eq!(alone, draw(7, vec![PROMPT.to_vec()]));
    assert_ne!(alone, draw(8, vec![PROMPT.to_vec()]));
    let together = draw(7, vec![PROMPT.to_vec(), PROMPT.to_vec()]);
    assert_eq!(together[0], alone[0]);
    assert_ne!(together[1], alone[0], "each prompt draws for itself");
}

#[test]
fn a_repetition_penalty_moves_the_choice() {
    let model = tiny_llama();
    let run = |penalty: f64| ids(&generate!(model, PROMPT.to_vec(), max_new_tokens = 8, repetition_penalty = penalty, { model.tokens() }).unwrap());
    let (plain, penalized) = (run(1.0), run(100.0));
    assert_eq!(plain[0], by_whole_passes(&PROMPT, 8).0);
    let mut seen = PROMPT.to_vec();
    for &token in &penalized[0] {
        assert!(!seen.contains(&token), "{penalized:?}");
        seen.push(token);
    }
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let model = tiny_llama();
    let refused = |settings: Generation| generate!(model, PROMPT.to_vec(), settings = settings, { model.tokens() }).unwrap_err().to_string();
    assert!(refused(Generation::default().max_new_tokens(0)).contains("`max_new_tokens` is 0"));
    assert!(refused(Generation::default().temperature(-1.0)).contains("`temperature` is -1"));
    assert!(refused(Generation::default().min_new_tokens(30)).contains("above `max_new_tokens`"));
    // Positions that the model does not have.
    let error = refused(Generation::default().max_new_tokens(62));
    assert!(error.contains("has 65 tokens; `Dynamic` reads at most 64"), "{error}");
}

#[test]
fn tokens_are_told_of_as_they_come() {
    let model = tiny_llama();
    let mut told = Vec::new();
    let tokens = generate!(
        model,
        vec![PROMPT.to_vec(), vec![9, 2]],
        max_new_tokens = 3,
        on_token = |token| told.push((token.step, token.prompt, token.id)),
        { model.tokens() }
    )
    .unwrap();
    let tokens = ids(&tokens);
    let expected = (0..3).flat_map(|step| [(step, 0, tokens[0][step]), (step, 1, tokens[1][step])]).collect::<Vec<_>>();
    assert_eq!(told, expected);
    // Also where nothing else wants the tokens.
    let mut count = 0;
    generate!(model, PROMPT.to_vec(), max_new_tokens = 4, on_token = |_| count += 1, {
        model.prompt().layers[0].mlp.output *= 0.5;
    })
    .unwrap();
    assert_eq!(count, 4);
}

#[test]
fn stop_strings_end_a_text() {
    let model = smollm2();
    let tokens = generate!(model, EIFFEL, max_new_tokens = 12, stop_strings = ["\n"], { model.tokens() }).unwrap();
    let text = &model.tokenizer().decode_rows(&tokens).unwrap()[0];
    assert!(text.starts_with(" Paris.\n") && tokens.dim(1).unwrap() < 6, "{text:?}");
}

#[test]
fn whoever_listens_hears_every_token() {
    let model = tiny_llama();
    // Nothing that is saved needs more than two steps.
    let mut told = 0;
    let graph = graph!(model, PROMPT.to_vec(), max_new_tokens = 30, min_new_tokens = 30, { model.step(1).layers[0].output }).unwrap();
    let saved =
        nnsight::trace::Traceable::run(model, graph, nnsight::run::Observer { on_emitted: Some(&mut |_| told += 1), ..Default::default() }).unwrap();
    assert_eq!((saved.len(), told), (1, 30));
}

#[test]
fn what_a_graph_has_to_say_goes_to_whoever_is_told_of_it() {
    use nnsight::run::{Note, Observer};
    let model = tiny_llama();
    let mut notes = Vec::new();
    let graph = graph!(model, PROMPT.to_vec(), max_new_tokens = 3, stop_tokens = [0, 1, 2, 3, 4, 5, 6, 7], {
        let mut sums = Vec::new();
        for step in model.steps(..) {
            sums.push(step.layers[0].output.at(Seq, -1).norm_all().log("size"));
        }
        sums
    });
    nnsight::trace::Traceable::run(model, graph.unwrap(), Observer { on_note: Some(&mut |note: Note| notes.push(note)), ..Default::default() })
        .unwrap();
    assert!(!notes.is_empty());
    for note in &notes {
        match note {
            Note::Logged { label, value, source_line } => {
                assert_eq!((label.as_str(), value.rank()), ("size", 0));
                assert_eq!(source_line.as_ref().map(|source| &*source.file), Some(file!()));
                assert!(note.to_string().contains("size = "), "{note}");
            }
            note => panic!("{note}"),
        }
    }
}

#[test]
fn edits_reach_every_step_of_some_prompts() {
    let model = tiny_llama();
    let (edited, plain, alone) = {
        let (edited, plain) = generate!(model, max_new_tokens = 4, {
            let edited = invoke!(PROMPT.to_vec(), {
                for step in model.steps(..) {
                    step.layers[1].output *= -1.0;
                }
                model.steps(..).map(|step| step.lm_head.output.at(Seq, -1))
            });
            let plain = invoke!(PROMPT.to_vec(), { model.tokens() });
            (edited, plain)
        })
        .unwrap();
        let alone = generate!(model, PROMPT.to_vec(), max_new_tokens = 4, {
            for step in model.steps(..) {
                step.layers[1].output *= -1.0;
            }
            model.steps(..).map(|step| step.lm_head.output.at(Seq, -1))
        })
        .unwrap();
        (edited, plain, alone)
    };
    assert_eq!(ids(&plain)[0], by_whole_passes(&PROMPT, 4).0);
    for (edited, alone) in edited.iter().zip(&alone) {
        assert!(difference(edited, alone) < 1e-5);
    }
}

#[test]
fn a_run_can_be_ended_by_what_it_sees() {
    let model = tiny_llama();
    let run = |threshold: f64| {
        generate!(model, PROMPT.to_vec(), max_new_tokens = 6, {
            let mut norms = Vec::new();
            for step in model.steps(..) {
                let norm = step.layers[2].output.at(Seq, -1).norm_all();
                norms.push(norm);
                if norm.gt(threshold) {
                    stop!(step.layers[2].output);
                }
            }
            (model.tokens(), norms)
        })
    };
    let (tokens, norms) = run(1e9).unwrap();
    assert_eq!((tokens.dim(1).unwrap(), norms.len()), (6, 6));
    let norms = norms.iter().map(|norm| norm.to_scalar::<f32>().unwrap()).collect::<Vec<_>>();
    let (tokens, stopped) = run(0.0).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((tokens.dim(1).unwrap(), stopped.len()), (0, 1), "no token follows, {norms:?}");
}
