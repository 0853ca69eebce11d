use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { model.norm(model.layers[3].mlp.gate_proj.output) })?;
    Ok(())
}

fn main() {}
