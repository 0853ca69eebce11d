use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    trace!(model, "x", {
        model.layers[3].output = "abc";
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
