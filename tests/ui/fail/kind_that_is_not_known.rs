use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", { model.get("layers.3.mlp.output") })?;
    Ok(())
}

fn main() {}
