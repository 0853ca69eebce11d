use nnsight::prelude::*;

fn edit(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = edit!(model, { model.layers[3].output })?;
    Ok(())
}

fn main() {}
