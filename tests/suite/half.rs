//! What 16 bits must not lose: probabilities that add up, losses and gradients that are numbers, and an error where they cannot be.

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

use crate::shared::{EIFFEL, folder, numbers, relative};

const PROMPT: [u32; 5] = [3, 17, 5, 40, 22];

fn smollm2(dtype: DType) -> Llama<SmolLm2_135M> {
    Llama::load(Source::default().dtype(dtype)).unwrap()
}

fn tiny(dtype: DType) -> Llama<Dynamic> {
    Llama::load(Source::from(folder("tests/reference/llama")).dtype(dtype)).unwrap()
}

fn row_sums(probabilities: &Candle) -> Vec<f64> {
    let vocab = *probabilities.dims().last().unwrap();
    numbers(probabilities).chunks(vocab).map(|row| row.iter().sum()).collect()
}

#[test]
fn probabilities_over_a_large_vocabulary_add_up() {
    let model = &smollm2(DType::BF16);
    let (probabilities, lens) = trace!(model, EIFFEL, {
        let lens = model.layers.iter().map(|layer| model.lm_head(model.norm(layer.output.at(Seq, -1))).softmax(Vocab));
        (model.lm_head.output.softmax(Vocab), lens.collect::<Vec<_>>())
    })
    .unwrap();
    for sum in row_sums(&probabilities).into_iter().chain(lens.iter().flat_map(|lens| row_sums(lens))) {
        assert!((sum - 1.0).abs() < 0.004, "{sum}");
    }
}

#[test]
fn a_loss_with_a_gradient_is_the_loss_without_one() {
    let run = |dtype| {
        let model = &smollm2(dtype);
        let alone = trace!(model, EIFFEL, { -model.lm_head.output.log_softmax(Vocab).pick(Vocab, 42).sum_all() }).unwrap();
        let (loss, gradient) = trace!(model, EIFFEL, {
            let loss = -model.lm_head.output.log_softmax(Vocab).pick(Vocab, 42).sum_all();
            (loss, model.layers[3].output.grad(loss))
        })
        .unwrap();
        (numbers(&alone)[0], numbers(&loss)[0], gradient)
    };
    let (_, expected, exact) = run(DType::F32);
    for (dtype, bound) in [(DType::F16, 0.02), (DType::BF16, 0.1)] {
        let (alone, loss, gradient) = run(dtype);
        assert!((loss - expected).abs() < 0.01 * expected && (alone - loss).abs() <= 0.01 * expected, "{dtype:?}: {alone} {loss} {expected}");
        let relative = relative(&gradient, &exact);
        assert!(relative < bound, "{dtype:?}: {relative}");
    }
}

#[test]
fn a_loss_that_overflows_is_an_error_with_its_line() {
    let run = |dtype| {
        let model = &tiny(dtype);
        trace!(model, PROMPT.to_vec(), {
            let h = model.layers[0].output;
            let loss = (h * 1e4).sqr().sum_all();
            h.grad(loss)
        })
    };
    let error = run(DType::F16).unwrap_err().to_string();
    assert!(error.contains("half.rs:") && error.contains("the loss is infinite or NaN in f16, whose largest number is 6.550e4"), "{error}");
    assert!(numbers(&run(DType::F32).unwrap()).iter().all(|x| x.is_finite()));
}

#[test]
fn a_single_number_that_overflows_is_an_error_without_a_gradient_too() {
    let run = |dtype| {
        let model = &tiny(dtype);
        trace!(model, PROMPT.to_vec(), { (model.layers[0].output.ones_like() * 1000.0).sum_all() })
    };
    let error = run(DType::F16).unwrap_err().to_string();
    assert!(error.contains("half.rs:") && error.contains("1.6e5 is more than f16 can hold, whose largest number is 6.550e4"), "{error}");
    assert!((numbers(&run(DType::BF16).unwrap())[0] - 160_000.0).abs() < 500.0);
}

#[test]
fn a_gradient_that_overflows_is_an_error_with_its_line() {
    let model = &tiny(DType::F16);
    let error = trace!(model, PROMPT.to_vec(), {
        let small = model.layers[0].output.at(Seq, -1) * 0.0 + 1e-3;
        let loss = small.recip().mean_all() * 32.0;
        (loss, small.grad(loss))
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("half.rs:") && error.contains("the gradient is infinite or NaN in f16"), "{error}");
}

#[test]
fn numbers_that_are_too_large_for_the_type_are_its_largest() {
    let model = &tiny(DType::F16);
    let (masked, full) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        (h.gt(0.0).where_(h, -1e9).softmax(Hidden), h.gt(0.0).where_(h, -1e9) * 0.0)
    })
    .unwrap();
    assert!(numbers(&full).iter().all(|&x| x == 0.0));
    assert!(row_sums(&masked).iter().all(|sum| (sum - 1.0).abs() < 0.01));
}

#[test]
fn gradients_reach_what_is_written_in_many_places() {
    // One vector at 60 positions: its gradient is a sum over them.
    let prompt = (0..60).map(|at| at % 60).collect::<Vec<u32>>();
    let run = |dtype| {
        let model = &tiny(dtype);
        trace!(model, prompt.clone(), {
            let vector = model.layers[0].output.at(Seq, 0).at(Batch, 0).value();
            model.layers[0].output = vector;
            let loss = model.layers[0].output.sum_all();
            vector.grad(loss)
        })
        .unwrap()
    };
    for dtype in [DType::BF16, DType::F16] {
        assert!(numbers(&run(dtype)).iter().all(|&x| x == 60.0));
    }
}

#[test]
fn scattering_counts_the_last_of_equal_indices_and_has_a_gradient() {
    for dtype in [DType::F32, DType::BF16] {
        let model = &tiny(dtype);
        let (stream, first, gradient) = trace!(model, PROMPT.to_vec(), {
            let h = model.layers[0].output;
            let rows = h.slice(Seq, 0..3).value();
            model.layers[0].output.select(Seq, [1, -1, 1]) = rows;
            let loss = model.layers[0].output.sum_all();
            (model.layers[0].output, rows, rows.grad(loss))
        })
        .unwrap();
        let row = |x: &Candle, at: usize| numbers(&x.narrow(1, at, 1).unwrap());
        assert_eq!(row(&stream, 1), row(&first, 2));
        assert_eq!(row(&stream, 4), row(&first, 1));
        let sums = [0, 1, 2].map(|at| row(&gradient, at).iter().sum::<f64>());
        assert_eq!(sums, [0.0, 32.0, 32.0], "what was overwritten has no part in the loss");
    }
}

#[test]
fn what_is_read_within_a_layer_is_rounded_and_changes_nothing() {
    for dtype in [DType::BF16, DType::F16] {
        let model = &tiny(dtype);
        let plain = trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap();
        let (logits, mid, normed, mlp) = trace!(model, PROMPT.to_vec(), {
            let layer = model.layers[1];
            (model.lm_head.output, layer.resid_mid, layer.input_layernorm.output, layer.mlp.output)
        })
        .unwrap();
        assert_eq!((mid.dtype(), normed.dtype(), mlp.dtype()), (dtype, dtype, dtype));
        assert_eq!(numbers(&logits), numbers(&plain), "{dtype:?}");
        // What is written is in 16 bits, and the model goes on with it.
        let (written, changed) = trace!(model, PROMPT.to_vec(), {
            model.layers[1].resid_mid *= 0.5;
            (model.layers[1].resid_mid, model.lm_head.output)
        })
        .unwrap();
        assert_eq!(numbers(&written), numbers(&mid).iter().map(|x| x * 0.5).collect::<Vec<_>>());
        assert_ne!(numbers(&changed), numbers(&plain));
    }
}

#[test]
fn skipped_modules_and_attached_ones_take_16_bits() {
    let model = &tiny(DType::BF16);
    let (skipped, plain) = trace!(model, {
        let skipped = invoke!(PROMPT.to_vec(), {
            let earlier = model.layers[0].mlp.output * 2.0;
            model.layers[1].self_attn.q_proj.skip(0.0);
            model.layers[1].mlp.skip(earlier);
            model.lm_head.output
        });
        let plain = invoke!(PROMPT.to_vec(), { model.lm_head.output });
        (skipped, plain)
    })
    .unwrap();
    assert_eq!(skipped.dtype(), DType::BF16);
    assert!(numbers(&skipped).iter().all(|x| x.is_finite()) && relative(&skipped, &plain) > 0.01);
}
