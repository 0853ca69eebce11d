use nnsight::prelude::*;

fn shrink(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = trace!(model, "x", { while_loop(model.layers[3].output, |h| h.norm_all().gt(1.0), |h| h.mean(Seq)) })?;
    Ok(())
}

fn main() {}
