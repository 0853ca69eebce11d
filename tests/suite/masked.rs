//! Prompts with hidden tokens, against transformers' `generate` with an attention mask; `tests/reference/make_masked.py` wrote what is
//! expected.

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;
use serde::Deserialize;

use crate::shared::{difference, folder, numbers, tiny_gpt2, tiny_llama};

#[derive(Deserialize)]
struct Case {
    tokens: Vec<u32>,
    seen: Vec<bool>,
    positions: Vec<f64>,
    /// For each generated token those of the whole vocabulary.
    logits: Vec<Vec<f32>>,
    generated: Vec<u32>,
}

impl Case {
    fn prompt(&self) -> Prompt {
        Prompt::masked(&self.tokens, &self.seen)
    }

    /// The tokens that are seen.
    fn rest(&self) -> Vec<u32> {
        self.tokens.iter().zip(&self.seen).filter(|(_, seen)| **seen).map(|(token, _)| *token).collect()
    }

    fn check(&self, steps: &[Candle], tokens: &Candle) {
        assert_eq!(steps.len(), self.logits.len());
        for (step, (found, expected)) in steps.iter().zip(&self.logits).enumerate() {
            let expected = Candle::new(expected.as_slice(), &Device::Cpu).unwrap();
            let difference = difference(&found.squeeze(0).unwrap(), &expected);
            assert!(difference < 1e-4, "{:?}, step {step}: {difference}", self.seen);
        }
        let expected = self.generated.iter().map(|&token| f64::from(token)).collect::<Vec<_>>();
        assert_eq!(numbers(tokens), expected, "{:?}", self.seen);
    }
}

fn cases(model: &str) -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(folder(&format!("tests/reference/{model}/masked.json"))).unwrap()).unwrap()
}

const LONGER: [u32; 9] = [9, 2, 33, 4, 5, 6, 7, 8, 9];

#[test]
fn positions_are_counted_over_the_tokens_that_are_seen_by_llama() {
    let model = tiny_llama();
    for case in cases("llama") {
        // Beside a longer prompt, so that there is padding too, and alone.
        let (steps, tokens) = generate!(model, max_new_tokens = 4, {
            let own = invoke!(case.prompt(), { (model.steps(..).map(|step| step.lm_head.output.at(Seq, -1)), model.tokens()) });
            let _ = invoke!(LONGER.to_vec(), { model.tokens() });
            own
        })
        .unwrap();
        case.check(&steps.into_iter().map(|step| step.into_inner()).collect::<Vec<_>>(), &tokens);
        let (logits, positions) =
            trace!(model, case.prompt(), { (model.lm_head.output.at(Seq, -1), model.layers[1].self_attn.position_ids) }).unwrap();
        assert_eq!(numbers(&positions), case.positions, "{:?}", case.seen);
        let rest = trace!(model, case.rest(), { model.lm_head.output.at(Seq, -1) }).unwrap();
        assert!(difference(&logits, &rest) < 1e-5, "hidden tokens change nothing: {:?}", case.seen);
    }
}

#[test]
fn positions_are_counted_over_the_tokens_that_are_seen_by_gpt2() {
    let model = tiny_gpt2();
    for case in cases("gpt2") {
        let (steps, tokens) = generate!(model, max_new_tokens = 4, {
            let own = invoke!(case.prompt(), { (model.steps(..).map(|step| step.lm_head.output.at(Seq, -1)), model.tokens()) });
            let _ = invoke!(LONGER.to_vec(), { model.tokens() });
            own
        })
        .unwrap();
        case.check(&steps.into_iter().map(|step| step.into_inner()).collect::<Vec<_>>(), &tokens);
        let (all, last) = trace!(model, case.prompt(), { (model.lm_head.output.at(Batch, 0), model.lm_head.output.at(Seq, -1)) }).unwrap();
        let rest = trace!(model, case.rest(), { model.lm_head.output.at(Batch, 0) }).unwrap();
        assert!(difference(&last.squeeze(0).unwrap(), &rest.get(rest.dim(0).unwrap() - 1).unwrap()) < 1e-5, "{:?}", case.seen);
        let seen = case.seen.iter().enumerate().filter(|(_, seen)| **seen);
        for (place, (position, _)) in seen.enumerate() {
            assert!(difference(&all.get(position).unwrap(), &rest.get(place).unwrap()) < 1e-5, "{:?} at {position}", case.seen);
        }
    }
}
