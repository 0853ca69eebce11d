use nnsight::prelude::*;

fn settings(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = generate!(model, "x", max_new_token = 3, { model.tokens() })?;
    Ok(())
}

fn main() {}
