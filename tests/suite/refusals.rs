//! What can be seen to be outside of an axis before anything runs: `scan!` computes nothing, and refuses all of it.

use nnsight::candle_core;
use nnsight::prelude::*;

use crate::shared::tiny_llama;

const PROMPT: [u32; 6] = [3, 17, 5, 40, 22, 8];

#[track_caller]
fn refused<T>(result: Result<T, nnsight::TraceError>, sentence: &str) {
    match result {
        Ok(_) => panic!("this should have been refused: {sentence}"),
        Err(error) => {
            assert_eq!(error.sentence(), sentence);
            assert_eq!(error.source_line().map(|source| &*source.file), Some(file!()));
        }
    }
}

/// Whole numbers as a tensor.
fn whole<S: nnsight::types::ShapeOf<Dynamic>>(numbers: &[i64], dims: &[usize]) -> Tensor<Dynamic, S, Int> {
    Tensor::new(candle_core::Tensor::from_slice(numbers, dims, &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn indices_of_lists() {
    let model = tiny_llama();
    let outside = |index: i64| format!("index {index} lies outside of an axis of 6 entries, `Seq`");
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.select(Seq, [0, 99]) }), &outside(99));
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.select(Seq, vec![-7]) }), &outside(-7));
    let write = scan!(model, PROMPT.to_vec(), {
        model.layers[0].output.select(Seq, [0, 6]) = 0.0;
        model.lm_head.output
    });
    refused(write, &outside(6));
    let update = scan!(model, PROMPT.to_vec(), {
        model.layers[0].output.select(Seq, &[5, -7][..]) *= 2.0;
        model.lm_head.output
    });
    refused(update, &outside(-7));
    let list = whole::<(Stacked,)>(&[0, 6], &[2]);
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.index_select(Seq, list.traced(model.layers[0].output)) }), &outside(6));
    // What is inside is not refused, at both ends.
    assert!(scan!(model, PROMPT.to_vec(), { model.layers[0].output.select(Seq, [0, 5, -1, -6]) }).is_ok());
}

#[test]
fn indices_for_each_entry() {
    let model = tiny_llama();
    let outside = |index: i64| format!("index {index} lies outside of an axis of 64 entries, `Vocab`");
    let tokens = whole::<(Batch, Seq)>(&[0, 1, 2, 3, 63, 64], &[1, 6]);
    refused(scan!(model, PROMPT.to_vec(), { model.lm_head.output.pick(Vocab, tokens.traced(model.lm_head.output)) }), &outside(64));
    let below = whole::<(Batch, Seq)>(&[0, 1, 2, 3, -1, 63], &[1, 6]);
    refused(scan!(model, PROMPT.to_vec(), { model.lm_head.output.pick(Vocab, below.traced(model.lm_head.output)) }), &outside(-1));
    let many = whole::<(Batch, Seq, nnsight::types::Ranked)>(&[70; 12], &[1, 6, 2]);
    refused(scan!(model, PROMPT.to_vec(), { model.lm_head.output.gather(Vocab, many.traced(model.lm_head.output)) }), &outside(70));
    refused(scan!(model, PROMPT.to_vec(), { tokens.traced(model.lm_head.output).one_hot(Vocab, 64) }), &outside(64));
    // By another name, and in another order, they are the same indices.
    let turned = whole::<(Seq, Batch)>(&[0, 1, 2, 3, 63, 64], &[6, 1]);
    let turned = scan!(model, PROMPT.to_vec(), { model.lm_head.output.pick(Vocab, turned.traced(model.lm_head.output).transpose(Seq, Batch)) });
    refused(turned, &outside(64));
    assert!(scan!(model, PROMPT.to_vec(), { tokens.traced(model.lm_head.output).one_hot(Vocab, 65) }).is_ok());
}

#[test]
fn parts() {
    let model = tiny_llama();
    refused(scan!(model, PROMPT.to_vec(), { model.lm_head.output.pick(Vocab, 64u32) }), "64 lies outside of the axis Vocab = 64");
    refused(scan!(model, PROMPT.to_vec(), { model.lm_head.output.at(Seq, -7) }), "-7 lies outside of the axis Seq = 6");
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.slice(Seq, 2..7) }), "2..7 lies outside of the axis Seq = 6");
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].self_attn.z.head(4) }), "4 lies outside of the axis Heads = 4");
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.value().with_at(Seq, 6, 0.0) }), "6 lies outside of the axis Seq = 6");
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.value().with_slice(Seq, 5..7, 0.0) }), "5..7 lies outside of the axis Seq = 6");
    // A part of a part has fewer entries.
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.slice(Seq, 2..4).at(Part(Seq), 2) }), "2 lies outside of the axis Seq = 2");
    refused(
        scan!(model, PROMPT.to_vec(), { model.lm_head.output.topk(Vocab, 65).0 }),
        "`topk`: there are no 65 largest entries of the axis Vocab = 64",
    );
    refused(scan!(model, PROMPT.to_vec(), { model.layers[0].output.topk(Seq, 7).1 }), "`topk`: there are no 7 largest entries of the axis Seq = 6");
}

#[test]
fn positions_before_the_first_of_the_shortest_prompt() {
    let model = tiny_llama();
    let prompts = vec![vec![1, 2, 3, 4], vec![5, 6]];
    let sentence = "-3 lies outside of the axis Seq of the shortest prompt = 2";
    refused(scan!(model, &prompts, { model.layers[0].output.at(Seq, -3) }), sentence);
    let write = scan!(model, &prompts, {
        model.layers[0].output.at(Seq, -3) = 0.0;
        model.lm_head.output.at(Seq, -1)
    });
    refused(write, sentence);
    refused(scan!(model, &prompts, { model.layers[0].output.slice(Seq, -3..) }), "-3.. lies outside of the axis Seq of the shortest prompt = 2");
    refused(scan!(model, &prompts, { model.layers[0].self_attn.pattern.at(Key, -4) }), "-4 lies outside of the axis Key of the shortest prompt = 2");
    assert!(scan!(model, &prompts, { model.layers[0].output.at(Seq, -2) }).is_ok());
}

#[test]
fn indices_along_prompts_of_different_lengths() {
    let model = tiny_llama();
    let prompts = vec![vec![1, 2, 3, 4], vec![5, 6]];
    let ragged = |op: &str, axis: &str| format!("`{op}` along {axis} of prompts of different lengths would mix in padding or shift positions");
    refused(scan!(model, &prompts, { model.layers[0].output.topk(Seq, 1).0 }), &ragged("topk", "Seq"));
    refused(scan!(model, &prompts, { model.layers[0].output.pick(Seq, model.layers[0].output.argmax(Seq)) }), &ragged("argmax", "Seq"));
    let zeros = whole::<(Batch, Hidden)>(&[0; 64], &[2, 32]);
    refused(scan!(model, &prompts, { model.layers[0].output.pick(Seq, zeros.traced(model.lm_head.output)) }), &ragged("pick", "Seq"));
}

#[test]
fn a_token_after_the_last_step_is_refused_before_the_run() {
    let model = tiny_llama();
    let beyond = generate!(model, vec![3, 17], max_new_tokens = 4, { model.tokens().at(Seq, 4) });
    refused(beyond, "4 lies outside of the axis Seq = 4");
    assert!(generate!(model, vec![3, 17], max_new_tokens = 4, { model.tokens().slice(Seq, 2..5) }).is_err());
    let last = generate!(model, vec![3, 17], max_new_tokens = 4, min_new_tokens = 4, { (model.tokens().at(Seq, 3), model.tokens().at(Seq, -1)) });
    let (last, same) = last.unwrap();
    assert_eq!(last.to_vec1::<i64>().unwrap(), same.to_vec1::<i64>().unwrap());
}
