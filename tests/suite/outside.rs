//! Arithmetic on what a trace gave back, by the rules that hold inside of one.

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

use crate::shared::{difference, identical, numbers, smollm2, tiny_llama};

const A: [u32; 4] = [3, 17, 5, 40];
const B: [u32; 4] = [9, 2, 33, 4];

type Vector = Tensor<Dynamic, (Hidden,)>;

fn vector(entries: &[f32]) -> Vector {
    Tensor::new(Candle::new(entries, &Device::Cpu).unwrap()).unwrap()
}

/// What a computation returns inside of a trace, where `$a` and `$b` are residual streams, and what it returns outside.
macro_rules! inside_and_outside {
    (|$a:ident, $b:ident| $inside:expr, $outside:expr) => {{
        let model = tiny_llama();
        let ($a, $b, inside) = trace!(model, vec![A.to_vec(), B.to_vec()], {
            let ($a, $b) = (model.layers[0].output.value(), model.layers[2].output.value());
            ($a, $b, $inside)
        })
        .unwrap();
        let ($a, $b) = (&$a, &$b);
        let outside = $outside.unwrap();
        assert_eq!(outside.dtype(), inside.dtype(), stringify!($outside));
        assert!(difference(&inside, &outside) < 1e-5, stringify!($outside));
    }};
}

#[test]
fn arithmetic_gives_what_it_gives_inside() {
    inside_and_outside!(|a, b| a - b, a - b);
    inside_and_outside!(|a, b| a + b * a, a + b * a);
    inside_and_outside!(|a, b| a / (b + 10.0), a / (b + 10.0));
    inside_and_outside!(|a, b| (a - b) * 0.5, ((a - b).unwrap() * 0.5).tensor());
    inside_and_outside!(|a, b| a * 2.0 - b / 4.0, a * 2.0 - b / 4.0);
    inside_and_outside!(|a, b| a - 1.5 + b * 0.0, a - 1.5 + b * 0.0);
    inside_and_outside!(|a, b| a - b.mean_keepdim(Hidden), a - b.mean_keepdim(Hidden));
    inside_and_outside!(|a, b| a - b.at(Batch, 0).at(Seq, -1), a - b.at(Batch, 0).at(Seq, -1));
}

#[test]
fn axes_are_named_as_inside() {
    inside_and_outside!(|a, b| (a - b).mean(Seq), (a - b).unwrap().mean(Seq));
    inside_and_outside!(|a, b| (a - b).sum(Batch), (a - b).unwrap().sum(Batch));
    inside_and_outside!(|a, b| (a - b).norm(Hidden), (a - b).unwrap().norm(Hidden));
    inside_and_outside!(|a, b| (a - b).norm_all(), (a - b).unwrap().norm_all());
    inside_and_outside!(|a, b| (a + b).var(Hidden), (a + b).unwrap().var(Hidden));
    inside_and_outside!(|a, b| (a + b).max(Seq), (a + b).unwrap().max(Seq));
    inside_and_outside!(|a, b| (a + b).argmin(Hidden), (a + b).unwrap().argmin(Hidden));
    inside_and_outside!(|a, b| (a + b).softmax(Hidden), (a + b).unwrap().softmax(Hidden));
    inside_and_outside!(|a, b| (a + b).topk(Hidden, 3).0, (a + b).unwrap().topk(Hidden, 3).map(|found| found.0));
    inside_and_outside!(|a, b| (a + b).topk(Seq, 2).1, (a + b).unwrap().topk(Seq, 2).map(|found| found.1));
    inside_and_outside!(|a, b| (a * b).sum(Hidden), a.dot(b, Hidden));
    inside_and_outside!(|a, b| (a * b).sum(Hidden) / (a.norm(Hidden) * b.norm(Hidden)), a.cosine(b, Hidden));
    inside_and_outside!(|a, b| (a + b).slice(Seq, ..-1), (a + b).unwrap().slice(Seq, ..-1));
    // Candle's axes by numbers stay candle's.
    let model = tiny_llama();
    let h = trace!(model, A.to_vec(), { model.layers[0].output }).unwrap();
    let by_number: Candle = h.mean(1).unwrap();
    assert!(identical(&by_number, &h.mean(Seq).unwrap()));
    assert!(identical(&h.max(nnsight::candle_core::D::Minus1).unwrap(), &h.max(Hidden).unwrap()));
}

#[test]
fn results_are_operands_as_candle_has_it() {
    let (love, hate, other) = (vector(&[3.0, 1.0]), vector(&[1.0, 2.0]), vector(&[10.0, 20.0]));
    let all = |result: nnsight::Result<Vector, nnsight::TraceError>| numbers(&result.unwrap());
    assert_eq!(all(&love - &hate), [2.0, -1.0]);
    assert_eq!(all(&love - &hate + &other), [12.0, 19.0]);
    assert_eq!(all(&other + (&love - &hate)), [12.0, 19.0]);
    assert_eq!(all(&other + (&love - &hate) * &other), [30.0, 0.0]);
    assert_eq!(all(love.clone() / hate.clone()), [3.0, 0.5]);
    let half = (&love - &hate).unwrap() * 0.5;
    assert_eq!(numbers(&half), [1.0, -0.5]);
    assert_eq!(numbers(&(2.0 * &half.tensor().unwrap() * 2.0)), [4.0, -2.0]);
    assert_eq!(all(&love + &half), [4.0, 0.5]);
    assert_eq!(all(&half + &love), [4.0, 0.5]);
    assert_eq!(all(&half - &half), [0.0, 0.0]);
    assert_eq!(all(&love + 1.0), [4.0, 2.0]);
    assert_eq!(numbers(&(-&half / 0.5)), [-2.0, 1.0]);
    // Whoever takes a tensor takes one times a number.
    fn norm(direction: &Vector) -> f64 {
        numbers(&direction.norm_all().unwrap())[0]
    }
    assert_eq!(norm(&(&vector(&[3.0, 4.0]) * 2.0)), 10.0);
    // A failure goes through.
    assert!((vector(&[1.0]) + (&love - vector(&[1.0, 2.0, 3.0]))).is_err());
}

#[test]
fn a_direction_from_outside_steers() {
    let model = tiny_llama();
    let (love, hate) = trace!(model, {
        let love = invoke!(A.to_vec(), { model.layers[0].output.at(Seq, -1) });
        (love, invoke!(B.to_vec(), { model.layers[0].output.at(Seq, -1) }))
    })
    .unwrap();
    let direction = (&love - &hate).unwrap().at(Batch, 0);
    let unit = (&direction / direction.norm_keepdim(Hidden)).unwrap();
    assert!((numbers(&unit.norm_all().unwrap())[0] - 1.0).abs() < 1e-6);
    let steered = trace!(model, A.to_vec(), {
        model.layers[0].output += &unit * 2.0;
        model.layers[1].output
    });
    let half = &unit * 4.0;
    let by_reference = trace!(model, A.to_vec(), {
        model.layers[0].output += &half * 0.5;
        model.layers[1].output
    });
    let plain = trace!(model, A.to_vec(), { model.layers[1].output }).unwrap();
    let steered = steered.unwrap();
    assert!(difference(&steered, &by_reference.unwrap()) < 1e-5 && difference(&steered, &plain) > 1e-2);
}

#[test]
fn sizes_that_the_names_do_not_spread_are_refused() {
    let model = tiny_llama();
    let run = |prompt: Vec<u32>| trace!(model, prompt, { model.layers[0].output }).unwrap();
    let (one, four) = (run(vec![3]), run(A.to_vec()));
    let error = (&four - &one).unwrap_err().to_string();
    assert!(error.contains("outside.rs:") && error.contains("Seq has 4 entries on the left and 1 on the right"), "{error}");
    let error = four.dot(&one, Hidden).unwrap_err().to_string();
    assert!(error.contains("outside.rs:") && error.contains("Seq has 4"), "{error}");
    assert!(four.topk(Hidden, 33).unwrap_err().to_string().contains("the 33 largest is out of range for the axis Hidden of size 32"));
    // One prompt broadcasts to several, and a mean of them to each.
    let two = trace!(model, vec![A.to_vec(), B.to_vec()], { model.layers[0].output }).unwrap();
    assert!(identical(&(&two - &four).unwrap().at(Batch, 1), &(&two.at(Batch, 1) - &four.at(Batch, 0)).unwrap()));
    assert!((&two - two.mean(Batch)).is_ok());
}

#[test]
fn sixteen_bits_are_added_up_in_more() {
    for dtype in [DType::F16, DType::BF16] {
        let ones = Candle::ones(4096, dtype, &Device::Cpu).unwrap();
        let ones = Tensor::<Dynamic, (Hidden,)>::new(ones).unwrap();
        let number = |found: nnsight::Result<Tensor<Dynamic, ()>, nnsight::TraceError>| {
            let found = found.unwrap();
            assert_eq!(found.dtype(), dtype);
            numbers(&found)[0]
        };
        assert_eq!(number(ones.sum_all()), 4096.0, "256 + 1 is 256 in BF16, and 2048 + 1 is 2048 in F16");
        assert_eq!((number(ones.dot(&ones, Hidden)), number(ones.norm(Hidden)), number(ones.mean(Hidden))), (4096.0, 64.0, 1.0));
        // Squares that F16 does not hold.
        let large = (&ones * 1000.0).tensor().unwrap();
        let expected = numbers(&Candle::new(64000f32, &Device::Cpu).unwrap().to_dtype(dtype).unwrap())[0];
        assert_eq!((number(large.norm_all()), number(large.cosine(&ones, Hidden))), (expected, 1.0));
        // The wider type is that of the result.
        let wide = vector(&[0.5; 4096]);
        assert_eq!((&ones + &wide).unwrap().dtype(), DType::F32);
    }
    let zeros = vector(&[0.0, 0.0]);
    assert_eq!(numbers(&zeros.cosine(&vector(&[1.0, 2.0]), Hidden).unwrap()), [0.0], "no direction");
}

#[test]
fn logits_and_tokens_are_decoded_as_they_come() {
    let model = smollm2();
    let tokenizer = model.tokenizer();
    let (logits, both) = trace!(model, {
        let logits = invoke!("The Eiffel Tower is in the city of", { model.lm_head.output.at(Seq, -1) });
        invoke!("One, two, three,", {
            let _ = model.lm_head.output;
        });
        (logits, invoke!({ model.lm_head.output.at(Seq, -1) }))
    })
    .unwrap();
    assert!(tokenizer.decode_top(&logits, 1).unwrap().starts_with("\" Paris\" "));
    assert_eq!(tokenizer.decode_top(&logits, 3).unwrap(), tokenizer.decode_top(&logits.at(Batch, 0), 3).unwrap());
    assert!(tokenizer.decode_top(&both, 1).unwrap_err().to_string().contains("these are 2 texts"));
    // Ids come back as what `decode` takes.
    assert_eq!(tokenizer.decode(&logits.argmax(Vocab).unwrap()).unwrap(), " Paris");
    assert_eq!(tokenizer.decode_rows(&both.argmax(Vocab).unwrap()).unwrap(), [" Paris", " four"]);
    let (_, best) = logits.at(Batch, 0).topk(Vocab, 2).unwrap();
    assert_eq!(tokenizer.decode_rows(&best).unwrap()[0], " Paris");
    assert_eq!(tokenizer.decode(&[tokenizer.token(" Paris").unwrap()]).unwrap(), " Paris");
    let negative = Tensor::<SmolLm2_135M, (Seq,), Int>::new(Candle::new(&[-1i64], &Device::Cpu).unwrap()).unwrap();
    assert!(tokenizer.decode(&negative).unwrap_err().to_string().contains("-1 is not a token id"));
    let ended = tokenizer.decode_rows(&vec![vec![tokenizer.token(" Paris").unwrap(), 0]]).unwrap();
    assert_eq!(ended, [" Paris"], "the token that ends a text is no part of it");
}
