use nnsight::prelude::*;

fn skip(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = trace!(model, "x", {
        model.layers[3].mlp.skip(model.layers[3].mlp.gate_proj.output);
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
