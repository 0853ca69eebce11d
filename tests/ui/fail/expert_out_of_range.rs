use nnsight::prelude::*;

fn run(model: &Qwen3Moe<Qwen3_30B_A3B>, _: ()) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { model.layers[47].mlp.experts[128].output })?;
    Ok(())
}

fn main() {}
