use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    generate!(model, "x", max_new_tokens = 20, { model.tokens })?;
    Ok(())
}

fn main() {}
