use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { model.layers[3].output.gt(0.0) + 1.0 })?;
    Ok(())
}

fn main() {}
