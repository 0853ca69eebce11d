//! `if` on a value: both branches are recorded, one is run.

use nnsight::prelude::*;

use crate::shared::{difference, identical, tiny_llama};

fn run(threshold: f64, nested: f64) -> nnsight::Result<(Tensor<Dynamic, (Batch, Seq, Vocab)>, Tensor<Dynamic, (Batch, Hidden)>)> {
    let model = tiny_llama();
    Ok(trace!(model, vec![3, 17, 5], {
        let h = model.layers[0].output;
        let chosen = if h.mean_all().gt(threshold) {
            if h.max_all().gt(nested) {
                model.layers[1].mlp.output = 0.0;
            } else {
                model.layers[1].mlp.output *= 2.0;
            }
            h.at(Seq, 0).value()
        } else {
            model.layers[2].mlp.output = 0.0;
            h.at(Seq, 1).value()
        };
        (model.lm_head.output, chosen)
    })?)
}

#[test]
fn the_branch_that_holds_is_run() {
    let model = tiny_llama();
    let by_hand = |layer: usize, factor: f64| {
        trace!(model, vec![3, 17, 5], {
            model.layers[layer].mlp.output *= factor;
            model.lm_head.output
        })
        .unwrap()
    };
    let h = trace!(model, vec![3, 17, 5], { model.layers[0].output }).unwrap();
    let (logits, chosen) = run(-1e6, -1e6).unwrap();
    assert!(difference(&logits, &by_hand(1, 0.0)) < 1e-6 && identical(&chosen, &h.at(Seq, 0)));
    let (logits, _) = run(-1e6, 1e6).unwrap();
    assert!(difference(&logits, &by_hand(1, 2.0)) < 1e-6);
    let (logits, chosen) = run(1e6, 0.0).unwrap();
    assert!(difference(&logits, &by_hand(2, 0.0)) < 1e-6 && identical(&chosen, &h.at(Seq, 1)));
}

#[test]
fn plain_conditions_are_plain_rust() {
    let model = tiny_llama();
    let list = (1..4).collect::<Vec<i32>>();
    let count = trace!(model, vec![3], {
        let mut chosen = Vec::new();
        for layer in model.layers.iter().skip(1) {
            if list.is_empty() {
                continue;
            }
            if let Some(2) = list.get(1) {
                chosen.push(layer.output.at(Seq, -1));
            }
        }
        chosen
    })
    .unwrap();
    assert_eq!(count.len(), 2);
}

#[test]
fn a_variable_assigned_in_one_branch_is_a_selection() {
    let model = tiny_llama();
    let run = |threshold: f64| {
        trace!(model, vec![3, 17, 5], {
            let h = model.layers[0].output;
            let (mut kept, mut count) = (h * 1.0, h.sum_all());
            if h.mean_all().gt(threshold) {
                kept = h * 2.0;
                count += 1.0;
            } else if h.mean_all().gt(1e9) {
                kept = h * 3.0;
            }
            (h, kept, count, h.sum_all())
        })
        .unwrap()
    };
    let (h, kept, count, sum) = run(-1e6);
    assert!(identical(&kept, &(&*h * 2.0).unwrap()) && identical(&count, &(&*sum + 1.0).unwrap()));
    let (h, kept, count, sum) = run(1e6);
    assert!(identical(&kept, &h) && identical(&count, &sum));
}

#[test]
fn a_variable_assigned_in_nested_branches_follows_all_conditions() {
    let model = tiny_llama();
    let run = |outer: f64, inner: f64| {
        let chosen = trace!(model, vec![3, 17, 5], {
            let h = model.layers[0].output.mean_all();
            let mut chosen = h * 0.0;
            if h.gt(outer) {
                chosen = h * 0.0 + 1.0;
                if h.gt(inner) {
                    chosen += 1.0;
                }
            } else {
                chosen -= 1.0;
            }
            chosen
        });
        chosen.unwrap().to_scalar::<f32>().unwrap()
    };
    assert_eq!([run(-1e6, -1e6), run(-1e6, 1e6), run(1e6, -1e6)], [2.0, 1.0, -1.0]);
}

#[test]
fn a_branch_on_a_value_cannot_be_left() {
    let model = tiny_llama();
    let error = trace!(model, vec![3], {
        for layer in model.layers {
            if layer.output.mean_all().gt(0.0) {
                break;
            }
        }
        model.lm_head.output
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("`break`"), "{error}");
}

#[test]
fn a_condition_does_not_hide_the_users_names() {
    let model = tiny_llama();
    let (condition, then, otherwise) = (true, 5, 6);
    let found = trace!(model, vec![3], {
        let chosen = if Some(condition).is_some() { then + otherwise } else { otherwise };
        assert_eq!(chosen, 11);
        model.layers[0].output
    });
    assert!(found.is_ok());
}
