#![deny(unused_must_use)]
use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        model.layers[3].output.clamp(-1.0, 1.0);
        model.layers[3].output * 0.0;
        model.layers[3].output;
        model.norm(model.layers[3].output);
        model.layers.iter().map(|layer| layer.output *= 0.5);
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
