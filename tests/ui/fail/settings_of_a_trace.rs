use nnsight::prelude::*;

fn settings(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = trace!(model, "x", max_new_tokens = 3, { model.layers[3].output })?;
    Ok(())
}

fn main() {}
