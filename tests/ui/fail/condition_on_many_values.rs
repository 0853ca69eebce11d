use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    trace!(model, "x", {
        if model.layers[3].output.gt(0.0) { model.layers[4].output = 0.0; }
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
