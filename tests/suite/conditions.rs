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
fn a_value_of_a_branch_cannot_be_used_outside_of_it() {
    let model = tiny_llama();
    let error = trace!(model, vec![3], {
        let h = model.layers[0].output;
        let mut kept = h * 1.0;
        if h.mean_all().gt(0.0) {
            kept = h * 2.0;
        }
        kept
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("conditions.rs") && error.contains("inside of a branch"), "{error}");
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
