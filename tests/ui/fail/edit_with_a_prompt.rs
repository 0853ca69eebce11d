use nnsight::prelude::*;

fn edit(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = edit!(model, "x", { model.layers[3].output = 0.0 })?;
    Ok(())
}

fn main() {}
