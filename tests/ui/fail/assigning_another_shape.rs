use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    trace!(model, "x", {
        let layer = model.layers[3];
        layer.mlp.output = layer.mlp.gate_proj.output;
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
