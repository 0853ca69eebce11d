use nnsight::prelude::*;

fn gradient(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { model.layers[3].output.grad(model.lm_head.output.at(Seq, -1)) })?;
    Ok(())
}

fn main() {}
