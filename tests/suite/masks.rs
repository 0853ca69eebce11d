//! What the attention may not look at: whatever is written to the scores, only the mask says.

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

use crate::shared::{folder, identical, numbers, tiny_gpt2, tiny_llama};

const PROMPT: [u32; 5] = [3, 17, 5, 40, 22];

fn llama(dtype: DType) -> Llama<Dynamic> {
    Llama::load(Source::from(folder("tests/reference/llama")).dtype(dtype)).unwrap()
}

/// The pattern query by query, head by head.
fn rows(pattern: &Candle) -> Vec<(usize, Vec<f64>)> {
    let (queries, keys) = (pattern.dims()[2], pattern.dims()[3]);
    numbers(pattern).chunks(keys).enumerate().map(|(index, row)| (index % queries, row.to_vec())).collect()
}

fn looks_back_only(pattern: &Candle, name: &str) {
    for (query, row) in rows(pattern) {
        assert!(row[query + 1..].iter().all(|&x| x == 0.0), "{name}: query {query} looks ahead: {row:?}");
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 0.02, "{name}: {row:?}");
    }
}

#[test]
fn no_edit_of_the_scores_unmasks() {
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
        let model = &llama(dtype);
        macro_rules! edits {
            ($($name:literal: |$scores:ident| $edit:expr;)+) => {$(
                let pattern = trace!(model, PROMPT.to_vec(), {
                    let $scores = &mut model.layers[1].self_attn.scores;
                    $edit;
                    model.layers[1].self_attn.pattern
                })
                .unwrap();
                looks_back_only(&pattern, $name);
            )+};
        }
        edits! {
            "times zero": |scores| *scores *= 0.0;
            "negated": |scores| *scores = -*scores;
            "a number": |scores| *scores = 0.25;
            "a head": |scores| scores.at(Heads, 1) = 3.0;
            "a key": |scores| scores.at(Key, -1) = 9.0;
            "clamped": |scores| *scores = scores.clamp(-1.0, 1.0);
            "ones": |scores| *scores = scores.ones_like();
        }
    }
}

#[test]
fn scores_of_zero_look_at_all_that_came_before_alike() {
    let (llama, gpt2) = (tiny_llama(), tiny_gpt2());
    let of_llama = trace!(llama, PROMPT.to_vec(), {
        llama.layers[0].self_attn.scores *= 0.0;
        llama.layers[0].self_attn.pattern
    });
    let of_gpt2 = trace!(gpt2, PROMPT.to_vec(), {
        gpt2.transformer.h[0].attn.scores *= 0.0;
        gpt2.transformer.h[0].attn.pattern
    });
    for (query, row) in rows(&of_llama.unwrap()).into_iter().chain(rows(&of_gpt2.unwrap())) {
        let even = 1.0 / (query + 1) as f64;
        assert!(row.iter().enumerate().all(|(key, x)| (x - if key <= query { even } else { 0.0 }).abs() < 1e-6), "{query}: {row:?}");
    }
}

#[test]
fn padding_stays_masked_and_so_do_later_steps() {
    let model = tiny_llama();
    let (short, alone) = {
        let both = trace!(model, {
            let short = invoke!(vec![3u32, 17, 5], {
                model.layers[0].self_attn.scores *= 0.0;
                model.lm_head.output
            });
            let long = invoke!(PROMPT.to_vec(), { model.lm_head.output });
            (short, long)
        });
        let alone = trace!(model, vec![3u32, 17, 5], {
            model.layers[0].self_attn.scores *= 0.0;
            model.lm_head.output
        });
        (both.unwrap().0, alone.unwrap())
    };
    assert!(crate::shared::difference(&short, &alone) < 1e-5);
    // The first token of the shorter prompt stands behind padding, in every step.
    let pattern = generate!(model, vec![vec![3u32, 17, 5], PROMPT.to_vec()], max_new_tokens = 2, min_new_tokens = 2, {
        model.step(1).layers[0].self_attn.scores *= 0.0;
        model.step(1).layers[0].self_attn.pattern
    })
    .unwrap();
    let first = numbers(&pattern.padded().get(0).unwrap().get(0).unwrap());
    assert!(first[..2].iter().all(|&x| x == 0.0) && first[2..].iter().all(|x| (x - 0.25).abs() < 1e-6), "{first:?}");
}

#[test]
fn the_mask_itself_unmasks() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let model = &llama(dtype);
        let (open, one) = trace!(model, {
            let open = invoke!(PROMPT.to_vec(), {
                model.layers[0].self_attn.attention_mask = 0.0;
                model.layers[0].self_attn.scores *= 0.0;
                model.layers[0].self_attn.pattern
            });
            let one = invoke!(PROMPT.to_vec(), {
                model.layers[0].self_attn.attention_mask.at(Key, 3) = 0.0;
                model.layers[0].self_attn.scores = 0.5;
                model.layers[0].self_attn.pattern
            });
            (open, one)
        })
        .unwrap();
        assert!(numbers(&open).iter().all(|x| (x - 0.2).abs() < 1e-3));
        for (query, row) in rows(&one) {
            assert!(row[3] > 0.15 && (0..5).all(|key| (row[key] == 0.0) == (key > query && key != 3)), "{query}: {row:?}");
        }
    }
}

#[test]
fn a_position_that_the_mask_hides_stays_hidden_whatever_number_hides_it() {
    let model = tiny_llama();
    for number in [-1e9, -1e4, f64::from(f32::MIN)] {
        let pattern = trace!(model, PROMPT.to_vec(), {
            model.layers[0].self_attn.attention_mask.at(Key, 1) = number;
            model.layers[0].self_attn.scores *= 0.0;
            model.layers[0].self_attn.pattern
        })
        .unwrap();
        for (query, row) in rows(&pattern).into_iter().filter(|(query, _)| *query != 1) {
            assert!(row[1] == 0.0 && row[0] > 0.1, "{number}, {query}: {row:?}");
        }
    }
}

#[test]
fn masks_and_scores_hold_the_lowest_finite_number_of_their_type() {
    for (dtype, lowest) in [(DType::F32, f64::from(f32::MIN)), (DType::BF16, -3.3895313892515355e38), (DType::F16, -65504.0)] {
        let model = &llama(dtype);
        let (mask, scores, written) = trace!(model, PROMPT.to_vec(), {
            let attention = model.layers[0].self_attn;
            let before = attention.scores.value();
            attention.scores = -1e9;
            (attention.attention_mask, before, attention.scores)
        })
        .unwrap();
        let (mask, scores) = (numbers(&mask), numbers(&scores));
        assert!(mask.iter().all(|&x| x == 0.0 || x == lowest) && mask.contains(&lowest), "{dtype:?}: {mask:?}");
        assert!(scores.iter().all(|x| x.is_finite()) && scores.iter().filter(|x| **x < 0.99 * lowest).count() == 4 * 10, "{dtype:?}: {scores:?}");
        assert!(numbers(&written).iter().all(|x| x.is_finite()), "a number of the program that is too large for the type");
    }
}

#[test]
fn scores_that_are_written_as_they_are_change_nothing() {
    let model = tiny_llama();
    let (read, written) = trace!(model, {
        let read = invoke!(PROMPT.to_vec(), {
            let _scores = model.layers[1].self_attn.scores.value();
            (_scores, model.lm_head.output)
        });
        let written = invoke!(PROMPT.to_vec(), {
            model.layers[1].self_attn.scores *= 1.0;
            model.lm_head.output
        });
        (read, written)
    })
    .unwrap();
    assert!(identical(&read.1, &written));
}
