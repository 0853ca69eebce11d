//! `match` on a value, and loops that run with the model.

use nnsight::prelude::*;

use crate::shared::{difference, identical, numbers, tiny_llama};

const PROMPT: [u32; 5] = [3, 17, 5, 40, 22];

#[test]
fn a_loop_goes_round_while_a_value_says_so() {
    let model = tiny_llama();
    let (start, halved, rounds) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        let zero = h.zeros_like().sum_all();
        let (halved, rounds) = while_loop((h, zero), |(h, _)| h.norm_all().gt(0.5), |(h, rounds)| (h * 0.5, rounds + 1.0));
        (h, halved, rounds)
    })
    .unwrap();
    let norm = |x: &nnsight::candle_core::Tensor| numbers(x).iter().map(|x| x * x).sum::<f64>().sqrt();
    let expected = (norm(&start) / 0.5).log2().ceil().max(0.0);
    assert_eq!(f64::from(rounds.to_scalar::<f32>().unwrap()), expected);
    assert!(norm(&halved) <= 0.5 && norm(&halved) > 0.2 && expected > 1.0);
    assert!(difference(&halved, &(&*start * 0.5f64.powf(expected)).unwrap()) < 1e-6);
}

#[test]
fn a_loop_may_go_round_not_even_once() {
    let model = tiny_llama();
    let (h, same) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        (h, while_loop(h, |h| h.norm_all().gt(1e9), |h| h * 0.0))
    })
    .unwrap();
    assert!(identical(&h, &same));
}

#[test]
fn rows_are_gone_over_with_something_carried_on() {
    let model = tiny_llama();
    let (h, decayed, last) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output.value();
        let decayed = fold(h, Seq, h.at(Seq, 0), |mean, row| mean * 0.5 + row * 0.5);
        // What the loop ends with goes on into the model.
        model.layers[1].output.at(Seq, -1) = decayed;
        (h, decayed, model.layers[2].input.at(Seq, -1))
    })
    .unwrap();
    let rows = h.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    let mut expected = rows[0].clone();
    for row in &rows {
        expected.iter_mut().zip(row).for_each(|(mean, x)| *mean = *mean * 0.5 + x * 0.5);
    }
    for (found, expected) in numbers(&decayed).iter().zip(expected) {
        assert!((found - f64::from(expected)).abs() < 1e-6);
    }
    assert!(identical(&last, &decayed));
}

#[test]
fn a_fold_gives_the_sum() {
    let model = tiny_llama();
    let (h, sum) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output;
        (h, fold(h, Seq, h.at(Seq, 0).zeros_like(), |sum, row| sum + row))
    })
    .unwrap();
    assert!(difference(&sum, &h.sum(1).unwrap()) < 1e-5);
}

#[test]
fn a_loop_is_left_early() {
    let model = tiny_llama();
    // The first row whose largest entry is above the mean of all largest entries, as `break` would find it.
    let (rows, found, count) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[1].output.at(Batch, 0);
        let threshold = h.max(Hidden).mean_all();
        let zero = threshold * 0.0;
        let (found, count) =
            fold(h, Seq, (h.at(Seq, 0).value(), zero), |(_, count), row| ContinueIf(row.max_all().le(threshold), (row, count + 1.0)));
        (h, found, count)
    })
    .unwrap();
    let rows = rows.to_vec2::<f32>().unwrap();
    let largest = rows.iter().map(|row| row.iter().copied().fold(f32::MIN, f32::max)).collect::<Vec<_>>();
    let mean = largest.iter().sum::<f32>() / largest.len() as f32;
    let expected = largest.iter().position(|&x| x > mean).unwrap();
    assert_eq!(count.to_scalar::<f32>().unwrap() as usize, expected + 1);
    assert_eq!(found.to_vec1::<f32>().unwrap(), rows[expected]);
}

#[test]
fn loops_are_nested_and_branch() {
    let model = tiny_llama();
    let (h, found) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output.at(Batch, 0);
        let scale = model.layers[0].output.norm_all();
        // The sum over rows of the entries above zero, each row halved until it is small.
        let found = fold(h, Seq, h.at(Seq, 0).zeros_like(), |sum, row| {
            let small = while_loop(row, |row| row.norm_all().gt(0.1), |row| row * 0.5);
            let part = if small.mean_all().gt(0.0) { small.value() } else { small * 0.0 + scale * 0.0 };
            sum + part
        });
        (h, found)
    })
    .unwrap();
    let mut expected = vec![0f32; 32];
    for row in h.to_vec2::<f32>().unwrap() {
        let mut row = row;
        while row.iter().map(|x| x * x).sum::<f32>().sqrt() > 0.1 {
            row.iter_mut().for_each(|x| *x *= 0.5);
        }
        if row.iter().sum::<f32>() > 0.0 {
            expected.iter_mut().zip(&row).for_each(|(sum, x)| *sum += x);
        }
    }
    for (found, expected) in found.to_vec1::<f32>().unwrap().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6);
    }
}

#[test]
fn a_loop_is_data_like_everything_else() {
    let model = tiny_llama();
    let graph = graph!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        let direction = Tensor::<Dynamic, (Hidden,)>::new(nnsight::candle_core::Tensor::ones(32, DType::F32, &Device::Cpu).unwrap()).unwrap();
        while_loop(h, |h| h.norm_all().lt(100.0), |h| h * 1.5 + &direction)
    })
    .unwrap();
    let sent = Graph::from_msgpack(&graph.to_msgpack().unwrap()).unwrap();
    assert_eq!(sent, graph);
    let (here, there) = (nnsight::trace::Traceable::execute(model, graph).unwrap(), nnsight::trace::Traceable::execute(model, sent).unwrap());
    assert!(identical(&here[0], &there[0]));
}

#[test]
fn what_a_loop_cannot_do_is_refused() {
    let model = tiny_llama();
    let says = |result: Result<Tensor<Dynamic, (Batch, Seq, Hidden)>, nnsight::TraceError>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("loops.rs:"), "{error}");
    };
    says(
        trace!(model, PROMPT.to_vec(), {
            let h = model.layers[0].output;
            while_loop(
                h,
                |h| h.norm_all().gt(1.0),
                |h| {
                    model.layers[2].output = h;
                    h * 0.5
                },
            )
        }),
        "writing to the model is not allowed inside a traced loop",
    );
    says(
        trace!(model, PROMPT.to_vec(), {
            let h = model.layers[0].output;
            let mut kept = h.value();
            while_loop(
                h,
                |h| h.norm_all().gt(1.0),
                |h| {
                    kept = h * 0.5;
                    kept
                },
            );
            kept + 1.0
        }),
        "uses a value from inside of a branch",
    );
    says(
        trace!(model, PROMPT.to_vec(), { while_loop(model.layers[0].output, |h| h.norm_all().ge(0.0), |h| h * 0.5) }),
        "loop exceeded 100000 iterations",
    );
    // A round that changes the shape cannot be written: `at` gives another type.
}

#[test]
fn a_gradient_goes_through_a_loop() {
    let model = tiny_llama();
    let (h, gradient) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        let loss = fold(h, Seq, h.at(Seq, 0).zeros_like(), |sum, row| sum + row.sqr()).sum_all();
        (h, h.grad(loss))
    })
    .unwrap();
    assert!(difference(&gradient, &(&*h * 2.0).unwrap()) < 1e-5);
}

#[test]
fn a_match_on_a_value_runs_one_of_its_arms() {
    let model = tiny_llama();
    let run = |prompt: [u32; 5]| {
        trace!(model, prompt.to_vec(), {
            let token = model.embed_tokens.input.at(Batch, 0).at(Seq, 2);
            let h = model.layers[0].output.norm_all();
            // A traced number.
            let by_value = match token {
                0 => h * 0.0,
                5 | 6 => h * 0.0 + 1.0,
                _ => h * 0.0 + 3.0,
            };
            // A plain one stays plain.
            let by_number = match PROMPT.len() {
                4 => h * 0.0,
                5 => h * 0.0 + 5.0,
                _ => unreachable!(),
            };
            (by_value, by_number)
        })
        .unwrap()
    };
    for (third, expected) in [(0, 0.0), (5, 1.0), (6, 1.0), (7, 3.0)] {
        let (by_value, by_number) = run([3, 17, third, 40, 22]);
        assert_eq!((by_value.to_scalar::<f32>().unwrap(), by_number.to_scalar::<f32>().unwrap()), (expected, 5.0));
    }
}
