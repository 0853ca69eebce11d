use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", { model.tokens() })?;
    Ok(())
}

fn main() {}
