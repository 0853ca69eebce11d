use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { model.layers[-31].output })?;
    Ok(())
}

fn main() {}
