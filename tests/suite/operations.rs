//! Operations on values: what each gives, and in which shape.

use nnsight::prelude::*;

use crate::shared::{identical, numbers, tiny_llama};

const PROMPT: [u32; 6] = [3, 17, 5, 40, 22, 8];

#[test]
fn every_operation_gives_what_it_says() {
    let model = tiny_llama();
    let h = trace!(model, PROMPT.to_vec(), { model.layers[0].output }).unwrap();
    let x = numbers(&h);
    let values = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        vec![
            -h,
            h.abs().sqrt(),
            h.exp(),
            h.abs().ln(),
            h.sqr(),
            h.tanh(),
            h.sigmoid(),
            h.silu(),
            h.relu(),
            h.recip(),
            h.abs().powf(1.5),
            h.clamp(-0.5, 0.25),
            1.0 - h,
            2.0 / h,
            h / 4.0,
            h.maximum(0.1),
            h.minimum(h * 0.5),
            h.gt(0.0).where_(h, -1.0),
            h.ones_like() + h,
            h.gt(0.0).cast::<Float>(),
            (h.gt(0.0) & h.lt(0.5)).cast::<Float>(),
            (!h.ge(0.0) | h.ge(1.0)).cast::<Float>(),
            h.zeros_like(),
        ]
    })
    .unwrap();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let expected: Vec<Box<dyn Fn(f64) -> f64>> = vec![
        Box::new(|x| -x),
        Box::new(|x| x.abs().sqrt()),
        Box::new(f64::exp),
        Box::new(|x| x.abs().ln()),
        Box::new(|x| x * x),
        Box::new(f64::tanh),
        Box::new(sigmoid),
        Box::new(move |x| x * sigmoid(x)),
        Box::new(|x| x.max(0.0)),
        Box::new(|x| 1.0 / x),
        Box::new(|x| x.abs().powf(1.5)),
        Box::new(|x| x.clamp(-0.5, 0.25)),
        Box::new(|x| 1.0 - x),
        Box::new(|x| 2.0 / x),
        Box::new(|x| x / 4.0),
        Box::new(|x| x.max(0.1)),
        Box::new(|x| x.min(x * 0.5)),
        Box::new(|x| if x > 0.0 { x } else { -1.0 }),
        Box::new(|x| 1.0 + x),
        Box::new(|x| f64::from(x > 0.0)),
        Box::new(|x| f64::from(x > 0.0 && x < 0.5)),
        Box::new(|x| f64::from(!(0.0..1.0).contains(&x))),
        Box::new(|_| 0.0),
    ];
    for (index, (value, expected)) in values.iter().zip(&expected).enumerate() {
        for (found, x) in numbers(value).iter().zip(&x) {
            let right = expected(*x);
            assert!((found - right).abs() < 1e-4 * right.abs().max(1.0), "operation {index} of {x}: {found}, not {right}");
        }
    }
}

#[test]
fn shapes_follow_the_named_axes() {
    let model = tiny_llama();
    let (split, merged, permuted, gathered, stacked, cat, cumsum, one_hot, picked, selected) = {
        let indices = Tensor::<Dynamic, (Stacked,), Int>::new(nnsight::candle_core::Tensor::new(&[2i64, 0, 2], &Device::Cpu).unwrap()).unwrap();
        let ((split, merged, permuted, gathered), (stacked, cat, cumsum), (one_hot, picked, selected)) = trace!(model, PROMPT.to_vec(), {
            let a = model.layers[0].self_attn;
            let split = a.q_proj.output.split(HeadsHidden, (Heads, HeadDim));
            let best = model.lm_head.output.argmax(Vocab);
            (
                (
                    split - a.q.transpose(Heads, Seq),
                    a.z.transpose(Heads, Seq).merge((Heads, HeadDim), HeadsHidden) - a.o_proj.input,
                    a.q.permute((Seq, Batch, HeadDim, Heads)),
                    model.lm_head.output.gather(Vocab, model.lm_head.output.topk(Vocab, 2).1),
                ),
                (stack(&[a.input, a.output]), cat(&[a.input, a.output], Seq), a.pattern.cumsum(Key)),
                (
                    best.one_hot(Mlp, 64),
                    model.lm_head.output.pick(Vocab, best) - model.lm_head.output.max(Vocab),
                    a.output.index_select(Seq, indices.traced(a.output)),
                ),
            )
        })
        .unwrap();
        (split, merged, permuted, gathered, stacked, cat, cumsum, one_hot, picked, selected)
    };
    assert!(numbers(&split).iter().chain(&numbers(&merged)).chain(&numbers(&picked)).all(|&x| x == 0.0));
    assert_eq!(permuted.dims(), [6, 1, 8, 4]);
    assert_eq!(gathered.dims(), [1, 6, 2]);
    assert_eq!(stacked.dims(), [2, 1, 6, 32]);
    assert_eq!(cat.dims(), [1, 12, 32]);
    assert!((numbers(&cumsum.at(Key, -1))[0] - 1.0).abs() < 1e-5);
    assert_eq!(numbers(&one_hot).iter().sum::<f64>(), 6.0);
    assert_eq!(selected.dims(), [1, 3, 32]);
}

#[test]
fn random_numbers_come_from_their_seed() {
    let model = tiny_llama();
    let (a, b, c) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        (h.randn_like(1), h.randn_like(1), h.randn_like(2))
    })
    .unwrap();
    assert!(identical(&a, &b) && !identical(&a, &c));
    let mean = numbers(&a).iter().sum::<f64>() / 192.0;
    assert!(mean.abs() < 0.3);
}

#[test]
fn reductions_along_an_axis_and_over_all() {
    let model = tiny_llama();
    let (all, along, kept, log) = trace!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output;
        (
            [h.sum_all(), h.mean_all(), h.max_all(), h.min_all(), h.var_all(), h.norm_all()],
            [h.sum(Hidden), h.mean(Hidden), h.max(Hidden), h.min(Hidden), h.var(Hidden), h.norm(Hidden)],
            ((h - h.mean_keepdim(Seq)).mean(Seq), h.argmax(Hidden), h.argmin(Hidden), h.argmax_all(), h.slice(Hidden, 30..).argmin(Part(Hidden))),
            (h.log_softmax(Hidden).exp().sum(Hidden), h.cumsum(Seq).at(Seq, -1) - h.sum(Seq)),
        )
    })
    .unwrap();
    let h = trace!(model, PROMPT.to_vec(), { model.layers[0].output }).unwrap();
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-3 * b.abs().max(1.0), "{a} {b}");
    let statistics = |x: &[f64]| {
        let (sum, count) = (x.iter().sum::<f64>(), x.len() as f64);
        let mean = sum / count;
        let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        [sum, mean, x.iter().copied().fold(f64::MIN, f64::max), x.iter().copied().fold(f64::MAX, f64::min), var, norm]
    };
    for (found, expected) in all.iter().zip(statistics(&numbers(&h))) {
        close(numbers(found)[0], expected);
    }
    for position in 0..PROMPT.len() {
        let row = numbers(&h.at(Seq, position as i64));
        for (found, expected) in along.iter().zip(statistics(&row)) {
            close(numbers(found)[position], expected);
        }
        assert_eq!(row[numbers(&kept.1)[position] as usize], statistics(&row)[2]);
        assert_eq!(row[numbers(&kept.2)[position] as usize], statistics(&row)[3]);
        assert_eq!(numbers(&kept.4)[position], f64::from(u8::from(row[31] < row[30])));
        close(numbers(&log.0)[position], 1.0);
    }
    assert!(numbers(&kept.0).iter().chain(&numbers(&log.1)).all(|x| x.abs() < 1e-4));
    assert_eq!(numbers(&h)[numbers(&kept.3)[0] as usize], statistics(&numbers(&h))[2]);
}

#[test]
fn a_logged_value_is_passed_on() {
    let model = tiny_llama();
    let (logged, plain) = trace!(model, PROMPT.to_vec(), {
        let logged = model.layers[0].output.at(Seq, -1).mean_all().log("mean of the last position");
        model.layers[1].output.sum_all().print();
        (logged, model.layers[0].output.at(Seq, -1).mean_all())
    })
    .unwrap();
    assert!(identical(&logged.reshape(1).unwrap(), &plain.reshape(1).unwrap()));
}
