//! Prompts of different lengths, and texts that end one by one: what comes back knows how far each row reaches.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nnsight::models::integrated_gradients;
use nnsight::prelude::*;
use nnsight::trace::Traceable;

use crate::shared::{difference, identical, smollm2, tiny_gpt2, tiny_llama};

const LONG: [u32; 7] = [9, 2, 33, 4, 5, 60, 7];
const SHORT: [u32; 3] = [3, 17, 5];

fn prompts() -> Vec<Vec<u32>> {
    vec![LONG.to_vec(), SHORT.to_vec()]
}

type Stream = Tensor<Dynamic, (Batch, Seq, Hidden)>;

/// The residual stream of both prompts in one batch, and that of the shorter one alone.
fn stream() -> (Stream, Stream) {
    let model = tiny_llama();
    let both = trace!(model, prompts(), { model.layers[1].output }).unwrap();
    (both, trace!(model, SHORT.to_vec(), { model.layers[1].output }).unwrap())
}

/// What a program panics with.
fn panics<T>(program: impl FnOnce() -> T) -> String {
    let problem = catch_unwind(AssertUnwindSafe(|| drop(program()))).expect_err("it is refused");
    problem.downcast_ref::<String>().cloned().unwrap_or_default()
}

fn says<T>(result: nnsight::Result<T, nnsight::TraceError>, words: &[&str]) {
    let Err(error) = result else { panic!("it is not refused: {words:?}") };
    let error = error.to_string();
    assert!(words.iter().all(|words| error.contains(words)), "{error}");
}

#[test]
fn rows_come_without_padding() {
    let (both, alone) = stream();
    assert_eq!(both.lengths(), Some(vec![7, 3]));
    let rows = both.rows().unwrap();
    assert_eq!(rows.iter().map(|row| row.dims().to_vec()).collect::<Vec<_>>(), [[7, 32], [3, 32]]);
    assert!(difference(&rows[1], &alone.at(Batch, 0)) < 1e-5);
    assert!(identical(&rows[1], &both.at(Batch, 1)) && identical(&rows[1], &both.at(Batch, -1)));
    assert_eq!(rows[1].lengths(), None);
    // Of prompts of one length nothing is said.
    let model = tiny_llama();
    let same = trace!(model, vec![SHORT.to_vec(); 2], { model.layers[1].output }).unwrap();
    assert_eq!((same.lengths(), same.rows().unwrap().len()), (None, 2));
}

#[test]
fn positions_count_from_each_prompts_first_token() {
    let (both, alone) = stream();
    for position in [0, 1, 2, -1, -3] {
        let (found, expected) = (both.at(Seq, position), alone.at(Seq, position));
        assert!(difference(&found.at(Batch, 1), &expected.at(Batch, 0)) < 1e-5, "position {position}");
        assert!(identical(&found.at(Batch, 1), &both.at(Batch, 1).at(Seq, position)), "position {position}");
        assert_eq!(found.lengths(), None);
    }
    // The shorter prompt has no fourth token.
    for position in [3, -4] {
        let problem = panics(|| both.at(Seq, position));
        assert!(problem.contains(&format!("{position} is out of range for the axis Seq of size 3 in row 1")) && problem.contains("rows.rs:"));
    }
    let first = both.slice(Seq, ..2).unwrap();
    assert_eq!((first.dims(), first.lengths()), ([2, 2, 32].as_slice(), None));
    assert!(difference(&first.at(Batch, 1), &alone.at(Batch, 0).slice(Seq, ..2).unwrap()) < 1e-5);
    let rest = both.slice(Seq, 1..).unwrap();
    assert_eq!(rest.lengths(), Some(vec![6, 2]));
    assert!(difference(&rest.at(Batch, 1), &alone.at(Batch, 0).slice(Seq, 1..).unwrap()) < 1e-5);
    says(both.slice(Seq, ..4), &["..4 is out of range for the axis Seq of size 3 in row 1"]);
}

#[test]
fn lengths_are_printed() {
    let (both, alone) = stream();
    assert_eq!(format!("{both:?}"), "Tensor(Batch, Seq, Hidden: [2, 7, 32], Seq of each row: [7, 3])");
    assert_eq!(format!("{alone:?}"), "Tensor(Batch, Seq, Hidden: [1, 3, 32])");
    let text = both.slice(Hidden, ..2).unwrap().to_string();
    let (first, second) = text.split_once("row 1:").unwrap();
    assert!(first.contains("row 0:") && second.contains("Tensor[[3, 2]"), "{text}");
}

#[test]
fn what_would_mix_padding_in_is_refused() {
    let (both, _) = stream();
    let words = ["rows.rs:", "would mix padding in", "[7, 3]", "`.rows()`"];
    says(both.mean(Seq), &[&words[..], &["`mean`"]].concat());
    says(both.sum(Batch), &words);
    says(both.norm_keepdim(Seq), &words);
    says(both.max_all(), &words);
    says(both.softmax(Seq), &words);
    says(both.topk(Seq, 1), &words);
    says(both.dot(&both, Seq), &words);
    says(both.whole(), &words);
    assert!(both.mean(1).unwrap_err().to_string().contains("would mix padding in"));
    for problem in [panics(|| both.to_vec3::<f32>()), panics(|| both.narrow(1, 0, 2)), panics(|| both.clone().into_inner())] {
        assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
    }
    // Along other axes each position is by itself.
    let norms = both.norm(Hidden).unwrap();
    assert_eq!(norms.lengths(), Some(vec![7, 3]));
    assert!(difference(&norms.at(Batch, 1), &both.at(Batch, 1).norm(Hidden).unwrap()) < 1e-6);
    let heads = both.topk(Hidden, 2).unwrap().0;
    assert!(difference(&heads.at(Batch, 1), &both.at(Batch, 1).topk(Hidden, 2).unwrap().0) < 1e-6);
}

#[test]
fn rows_meet_rows_of_the_same_prompts_only() {
    let (both, alone) = stream();
    let twice = (&both + &both).unwrap();
    assert_eq!(twice.lengths(), Some(vec![7, 3]));
    assert!(difference(&twice.at(Batch, 1), &(&both.at(Batch, 1) * 2.0).tensor().unwrap()) < 1e-6);
    let centred = (&both - both.mean_keepdim(Hidden)).unwrap();
    assert!(difference(&centred.at(Batch, 1), &(&both.at(Batch, 1) - both.at(Batch, 1).mean_keepdim(Hidden)).unwrap()) < 1e-6);
    let model = tiny_llama();
    let other = trace!(model, vec![SHORT.to_vec(), LONG.to_vec()], { model.layers[1].output }).unwrap();
    says(&both - &other, &["would mix padding in"]);
    let whole = trace!(model, vec![LONG.to_vec(); 2], { model.layers[1].output }).unwrap();
    says(&both - &whole, &["would mix padding in"]);
    says(&whole - &both, &["would mix padding in"]);
    assert!((&both.at(Batch, 1) - alone.at(Batch, 0)).is_ok());
}

#[test]
fn queries_and_keys_are_both_without_padding() {
    for (both, alone) in [
        {
            let model = tiny_llama();
            let run = |prompts: Vec<Vec<u32>>| trace!(model, prompts, { model.layers[1].self_attn.pattern }).unwrap();
            (run(prompts()), run(vec![SHORT.to_vec()]))
        },
        {
            let model = tiny_gpt2();
            let run = |prompts: Vec<Vec<u32>>| trace!(model, prompts, { model.transformer.h[1].attn.pattern }).unwrap();
            (run(prompts()), run(vec![SHORT.to_vec()]))
        },
    ] {
        assert_eq!(format!("{both:?}"), "Tensor(Batch, Heads, Query, Key: [2, 4, 7, 7], Query of each row: [7, 3], Key of each row: [7, 3])");
        assert!(difference(&both.at(Batch, 1), &alone.at(Batch, 0)) < 1e-5);
        let last = both.at(Query, -1);
        assert_eq!(last.lengths(), Some(vec![7, 3]));
        assert!(difference(&last.at(Batch, 1), &alone.at(Query, -1).at(Batch, 0)) < 1e-5);
        let first = both.at(Key, 0).at(Query, 2);
        assert!(difference(&first.at(Batch, 1), &alone.at(Key, 0).at(Query, 2).at(Batch, 0)) < 1e-5);
        assert!(both.sum(Key).is_err() && both.sum(Heads).is_ok());
    }
}

#[test]
fn what_a_block_computes_of_rows_keeps_their_lengths() {
    let model = tiny_llama();
    let run = |prompts: Vec<Vec<u32>>| {
        trace!(model, prompts, {
            let h = model.layers[1].output;
            let heads = model.layers[1].self_attn.z.permute((Batch, Seq, Heads, HeadDim));
            (h * 2.0 - h.mean_keepdim(Hidden), h.norm(Hidden), heads.merge((Heads, HeadDim), HeadsHidden), h.slice(Seq, -2..), h.gt(0.0))
        })
        .unwrap()
    };
    let (both, alone) = (run(prompts()), run(vec![SHORT.to_vec()]));
    assert!(difference(&both.0.at(Batch, 1), &alone.0.at(Batch, 0)) < 1e-5);
    assert!(difference(&both.1.at(Batch, 1), &alone.1.at(Batch, 0)) < 1e-5);
    assert!(difference(&both.2.at(Batch, 1), &alone.2.at(Batch, 0)) < 1e-5);
    assert_eq!((both.3.lengths(), both.4.lengths()), (None, Some(vec![7, 3])));
    assert!(difference(&both.3.at(Batch, 1), &alone.3.at(Batch, 0)) < 1e-5);
    // Further from the end than one of the prompts has tokens, there is nothing to take of it.
    says(
        trace!(model, prompts(), { model.layers[1].output.slice(Seq, -5..) }),
        &["rows.rs:", "-5.. lies outside of the axis Seq of the shortest prompt = 3"],
    );
    let row = trace!(model, prompts(), { model.layers[1].output.at(Batch, 1) }).unwrap();
    let (_, alone) = stream();
    assert!(difference(&row, &alone.at(Batch, 0)) < 1e-5, "a row that was picked inside has no padding either");
}

#[test]
fn a_block_does_not_take_padding_for_entries() {
    let model = tiny_llama();
    says(trace!(model, prompts(), { model.layers[1].output.mean(Batch) }), &["rows.rs:", "`mean` along Seq of prompts of different lengths"]);
    says(
        trace!(model, prompts(), { model.layers[1].output.at(Seq, -5) }),
        &["rows.rs:", "-5 lies outside of the axis Seq of the shortest prompt = 3"],
    );
    says(trace!(model, prompts(), { model.layers[1].output.merge((Batch, Seq), One) }), &["`merge` along Seq"]);
    says(trace!(model, prompts(), { model.layers[1].output.apply((Batch, Hidden), |h| h.sum(1)) }), &["`apply` along Seq"]);
    let other = trace!(model, vec![LONG.to_vec(); 2], { model.layers[0].output }).unwrap();
    let assigned = trace!(model, prompts(), {
        model.layers[0].output = &other;
        model.lm_head.output
    });
    says(assigned, &["rows.rs:", "`set` along Seq of prompts of different lengths"]);
    says(trace!(model, prompts(), { model.layers[0].output - &other }), &["`sub` along Seq"]);
    // A scan says so too.
    says(nnsight::scan!(model, prompts(), { model.layers[1].output.mean(Batch) }), &["prompts of different lengths"]);
    // What has no positions, or one for all, fits.
    let direction = trace!(model, SHORT.to_vec(), { model.layers[0].output.at(Seq, -1).at(Batch, 0) }).unwrap();
    let steered = trace!(model, prompts(), {
        model.layers[0].output += &direction * 2.0;
        model.layers[1].output
    })
    .unwrap();
    let alone = trace!(model, SHORT.to_vec(), {
        model.layers[0].output += &direction * 2.0;
        model.layers[1].output
    })
    .unwrap();
    assert!(difference(&steered.at(Batch, 1), &alone.at(Batch, 0)) < 1e-5);
}

#[test]
fn rows_go_back_into_a_trace_one_by_one() {
    let model = tiny_llama();
    let (both, _) = stream();
    let whole = trace!(model, prompts(), {
        model.layers[1].output = &both;
        model.lm_head.output
    });
    says(whole, &["rows.rs:", "[7, 3]", ".at(Batch, row)`"]);
    let patched = trace!(model, SHORT.to_vec(), {
        model.layers[1].output.at(Batch, 0) = both.at(Batch, 1);
        model.lm_head.output
    });
    let expected = trace!(model, SHORT.to_vec(), { model.lm_head.output });
    assert!(difference(&patched.unwrap(), &expected.unwrap()) < 1e-4);
}

const ENDS: [u32; 4] = [3, 17, 5, 40];
const GOES_ON: [u32; 3] = [9, 2, 33];

/// Two prompts of which the first one's text ends with its first token, and that token.
fn ending() -> (Vec<Vec<u32>>, u32) {
    let model = tiny_llama();
    let first = generate!(model, ENDS.to_vec(), max_new_tokens = 1, { model.tokens() }).unwrap();
    let ends = first.to_vec2::<i64>().unwrap()[0][0] as u32;
    let other = generate!(model, GOES_ON.to_vec(), max_new_tokens = 4, { model.tokens() }).unwrap();
    assert!(!other.to_vec2::<i64>().unwrap()[0].contains(&i64::from(ends)), "the example needs texts of different lengths");
    (vec![ENDS.to_vec(), GOES_ON.to_vec()], ends)
}

#[test]
fn each_text_is_as_long_as_it_is() {
    let model = tiny_llama();
    let (prompts, ends) = ending();
    let tokens = generate!(model, prompts, max_new_tokens = 4, stop_tokens = [ends], { model.tokens() }).unwrap();
    assert_eq!(tokens.lengths(), Some(vec![1, 4]));
    assert_eq!(format!("{tokens:?}"), "Tensor(Batch, Seq: [2, 4], Seq of each row: [1, 4])");
    assert_eq!(tokens.at(Batch, 0).to_vec1::<i64>().unwrap(), [i64::from(ends)]);
    assert_eq!(tokens.rows().unwrap()[1].dims(), [4]);
    assert_eq!(tokens.at(Seq, -1).at(Batch, 0).to_scalar::<i64>().unwrap(), i64::from(ends));
    assert!(tokens.max(Seq).is_err());
    // As a matrix it goes on with what ended it.
    assert_eq!(tokens.to_vec2::<i64>().unwrap()[0], [i64::from(ends); 4]);
}

#[test]
fn texts_are_decoded_as_long_as_they_are() {
    let model = smollm2();
    let prompts = ["The Eiffel Tower is in the city of", "One, two, three, four,"];
    let stop = model.tokenizer().token(".").unwrap();
    let tokens = generate!(model, prompts, max_new_tokens = 8, stop_tokens = [stop], { model.tokens() }).unwrap();
    let alone = prompts.map(|prompt| {
        let tokens = generate!(model, prompt, max_new_tokens = 8, stop_tokens = [stop], { model.tokens() }).unwrap();
        model.tokenizer().decode(&tokens).unwrap()
    });
    assert_eq!(alone[0], " Paris.");
    assert_eq!(model.tokenizer().decode_rows(&tokens).unwrap(), alone);
    assert_eq!(model.tokenizer().decode(&tokens.at(Batch, 0)).unwrap(), " Paris.");
    assert!(model.tokenizer().decode(&tokens).unwrap_err().to_string().contains("2 texts"));
}

#[test]
fn a_step_knows_whose_text_had_ended() {
    let model = tiny_llama();
    let (prompts, ends) = ending();
    let (steps, last) = generate!(model, prompts.clone(), max_new_tokens = 4, stop_tokens = [ends], {
        let steps = model.steps(..).map(|step| step.layers[1].output);
        (steps, model.step(2).layers[1].output.at(Seq, -1))
    })
    .unwrap();
    assert_eq!((steps[0].lengths(), steps[0].present()), (Some(vec![4, 3]), vec![0, 1]));
    assert_eq!((steps[1].dims(), steps[1].present(), last.present()), ([2, 1, 32].as_slice(), vec![1], vec![1]));
    assert_eq!(format!("{last:?}"), "Tensor(Batch, Hidden: [2, 32], rows that had ended: [0])");
    let alone = generate!(model, GOES_ON.to_vec(), max_new_tokens = 4, { model.steps(..).map(|step| step.layers[1].output.at(Seq, -1)) }).unwrap();
    assert!(difference(&last.at(Batch, 1), &alone[2].at(Batch, 0)) < 1e-5);
    let problem = panics(|| last.at(Batch, 0));
    assert!(problem.contains("row 0, whose text had ended before this step"), "{problem}");
    says(last.rows(), &["row 0"]);
    says(last.mean(Batch), &["row 0"]);
    assert!(last.norm(Hidden).is_ok());
    // Inside as well, though it shows only when the texts are there.
    let mixed = generate!(model, prompts.clone(), max_new_tokens = 4, stop_tokens = [ends], { model.step(2).layers[1].output.mean(Batch) });
    says(mixed, &["rows.rs:", "row 0, whose text had ended before this step"]);
    let mixed = generate!(model, prompts, max_new_tokens = 4, stop_tokens = [ends], {
        let step = model.step(2);
        step.layers[1].output = step.layers[1].output - step.layers[1].output.mean_keepdim(Batch);
        step.layers[2].output.at(Seq, -1)
    });
    says(mixed, &["row 0, whose text had ended before this step"]);
}

#[test]
fn a_prompt_beside_others_has_as_many_steps_as_alone() {
    let model = tiny_llama();
    let (_, ends) = ending();
    let (short, long) = generate!(model, max_new_tokens = 4, stop_tokens = [ends], {
        let short = invoke!(ENDS.to_vec(), { model.steps(..).map(|step| step.layers[1].output.norm_all()) });
        let long = invoke!(GOES_ON.to_vec(), { model.steps(..).map(|step| step.layers[1].output.norm_all()) });
        (short, long)
    })
    .unwrap();
    assert_eq!((short.len(), long.len()), (1, 4));
    let named = generate!(model, max_new_tokens = 4, stop_tokens = [ends], {
        let never = invoke!(ENDS.to_vec(), { model.step(2).layers[1].output });
        (never, invoke!(GOES_ON.to_vec(), { model.tokens() }))
    });
    says(named, &["rows.rs:", "step 2 never happened: the run ended after 1 steps"]);
}

#[test]
fn a_sweep_over_prompts_has_their_rows() {
    let model = tiny_llama();
    let prompts = prompts();
    let swept = sweep!(
        model,
        prompt.clone(),
        for prompt in &prompts {
            model.layers[1].output
        }
    )
    .unwrap();
    assert_eq!((swept.dims(), swept.lengths()), ([2, 1, 7, 32].as_slice(), Some(vec![7, 3])));
    let (_, alone) = stream();
    assert!(difference(&swept.at(Over::<0>, 1), &alone) < 1e-5);
    assert!(swept.mean(Seq).is_err());
    let grid = sweep!(
        model,
        prompt.clone(),
        for (prompt, layer) in grid(&prompts, 0..2) {
            model.layers[layer].output
        }
    );
    says(grid, &["[1, 7, 32] and [1, 3, 32]", "`.at(Seq, -1)`"]);
    // Several prompts at each point.
    let swept = sweep!(
        model,
        prompts.clone(),
        for factor in [1.0, 0.5] {
            model.layers[0].output *= factor;
            model.layers[1].output
        }
    )
    .unwrap();
    assert_eq!(swept.lengths(), Some(vec![7, 3]));
    assert!(difference(&swept.at(Over::<0>, 0).at(Batch, 1), &alone.at(Batch, 0)) < 1e-5);
    let folder = tempfile::tempdir().unwrap();
    let kept = sweep!(
        model,
        prompts.clone(),
        checkpoint = folder.path().join("rows.safetensors"),
        for factor in [1.0, 0.5] {
            model.layers[0].output *= factor;
            model.layers[1].output
        }
    );
    says(kept, &["[7, 3]", "a checkpoint does not hold"]);
}

#[test]
fn a_cache_has_rows() {
    use nnsight::trace::Keep;
    let model = tiny_llama();
    let cache = trace!(model, prompts(), { model.cache(&Keep::outputs().of(["layers.1", "lm_head"])) }).unwrap();
    let (_, alone) = stream();
    assert_eq!(cache.get("layers.1.output").unwrap().lengths(), Some(vec![7, 3]));
    let typed = cache.field(model, |model| model.layers[1].output).unwrap();
    assert!(difference(&typed.at(Batch, 1), &alone.at(Batch, 0)) < 1e-5);
    assert!(panics(|| cache.get("layers.1.output").unwrap().to_vec3::<f32>()).contains("would mix padding in"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache.safetensors");
    cache.save(&file).unwrap();
    let read = nnsight::candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    assert_eq!(read.len(), 4);
    assert!(difference(&read["layers.1.output.1"], &alone.at(Batch, 0)) < 1e-5);
}

#[test]
fn gradients_have_rows() {
    let model = tiny_llama();
    let run = |prompts: Vec<Vec<u32>>| {
        trace!(model, prompts, {
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 5);
            (model.layers[0].output.grad(loss), model.layers[0].mlp.up_proj.weight.grad(loss))
        })
        .unwrap()
    };
    let (both, alone) = (run(prompts()), run(vec![SHORT.to_vec()]));
    assert_eq!(both.0.lengths(), Some(vec![7, 3]));
    assert!(difference(&both.0.at(Batch, 1), &alone.0.at(Batch, 0)) < 1e-5);
    assert_eq!(both.1.lengths(), None, "a weight has no rows");
    let run = |prompts: Vec<Vec<u32>>| integrated_gradients(model, prompts, 4, |logits| logits.pick(Vocab, 5)).unwrap();
    let (both, alone) = (run(prompts()), run(vec![SHORT.to_vec()]));
    assert_eq!(both.lengths(), Some(vec![7, 3]));
    assert!(difference(&both.at(Batch, 1), &alone.at(Batch, 0)) < 1e-5);
}

#[test]
fn a_graph_that_is_run_as_data_gives_rows_or_none() {
    let model = tiny_llama();
    let graph = graph!(model, prompts(), { model.layers[1].output }).unwrap();
    says(model.execute(graph.clone()), &["would mix padding in"]);
    let saved = Traceable::run(model, graph, nnsight::run::Observer::default()).unwrap().remove(0).unwrap();
    assert_eq!((saved.lengths(), saved.dims()), (Some(vec![7, 3]), [2, 7, 32].as_slice()));
}
