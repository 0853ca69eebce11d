//! The interventions of this crate, called from traces.

use downstream::{Features, Tiny, conditional, splice, steer, without_attention};
use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

const PROMPT: [u32; 4] = [3, 17, 5, 40];

fn model() -> Llama<Tiny> {
    Llama::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/llama")).unwrap()
}

fn difference(a: &Candle, b: &Candle) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn steering() {
    let model = model();
    let direction = Tensor::<Tiny, (Hidden,)>::new(Candle::arange(0f32, 32.0, &Device::Cpu).unwrap()).unwrap();
    let (before, after) = trace!(model, PROMPT.to_vec(), {
        let before = model.layers[1].output.value();
        steer(model.layers[1], &direction, 0.5);
        (before, model.layers[1].output)
    })
    .unwrap();
    let expected = (before.at(Seq, -1).get(0).unwrap() + (&*direction * 0.5).unwrap()).unwrap();
    assert!(difference(&after.at(Seq, -1).get(0).unwrap(), &expected) < 1e-5);
    assert_eq!(difference(&after.at(Seq, 0), &before.at(Seq, 0)), 0.0);
}

#[test]
fn a_spliced_autoencoder() {
    let model = model();
    let encoder = Tensor::<Tiny, (Hidden, Features)>::new(Candle::randn(0f32, 1.0, (32, 24), &Device::Cpu).unwrap()).unwrap();
    let decoder = Tensor::<Tiny, (Features, Hidden)>::new(Candle::randn(0f32, 1.0, (24, 32), &Device::Cpu).unwrap()).unwrap();
    let (features, seen) = trace!(model, PROMPT.to_vec(), { (splice(model.layers[1], &encoder, &decoder), model.layers[2].input) }).unwrap();
    let expected = features.squeeze(0).unwrap().matmul(&decoder).unwrap();
    assert!(difference(&seen.squeeze(0).unwrap(), &expected) < 1e-4);
}

#[test]
fn on_any_architecture() {
    let (llama, gpt2) = (model(), Gpt2::<Dynamic>::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../reference/gpt2")).unwrap());
    let middle = trace!(llama, PROMPT.to_vec(), {
        without_attention(llama, 1);
        let block = llama.layers[2];
        block.resid_mid - block.input
    });
    assert!(middle.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|&x| x == 0.0));
    let middle = trace!(gpt2, PROMPT.to_vec(), {
        without_attention(gpt2, 0);
        let block = gpt2.transformer.h[0];
        block.resid_mid - block.input
    });
    assert!(middle.is_err(), "the later layers' edits reach nothing that is saved");
    trace!(gpt2, PROMPT.to_vec(), {
        without_attention(gpt2, 0);
        gpt2.lm_head.output
    })
    .unwrap();
}

#[test]
fn literal_layers_of_a_generic_model() {
    let model = model();
    let untouched = trace!(model, PROMPT.to_vec(), { (model.layers[0].output.mean_all(), model.lm_head.output) }).unwrap();
    let touched = trace!(model, PROMPT.to_vec(), {
        conditional(model);
        model.lm_head.output
    })
    .unwrap();
    let positive = untouched.0.to_scalar::<f32>().unwrap() > 0.0;
    assert_eq!(difference(&touched, &untouched.1) > 1e-4, positive);
}
