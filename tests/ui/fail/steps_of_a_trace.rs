use nnsight::prelude::*;

fn steps(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { model.steps(..).map(|step| step.layers[3].output) })?;
    Ok(())
}

fn main() {}
