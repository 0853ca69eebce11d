use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        for layer in model.layers[5..10] {
            layer.mlp.output = 0.0;
        }
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
