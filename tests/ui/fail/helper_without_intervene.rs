use nnsight::llama::Block;
use nnsight::prelude::*;

fn ablate(layer: &Block<'_, SmolLm2_135M>) {
    layer.mlp.output = 0.0;
}

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        ablate(&model.layers[3]);
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
