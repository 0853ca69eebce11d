use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", { model.layers[3].output.save() })?;
    Ok(())
}

fn main() {}
