use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        let norm = model.layers[3].output.norm_all();
        norm.gt(1.0) && norm.lt(2.0)
    })?;
    Ok(())
}

fn main() {}
