use nnsight::prelude::*;

fn sweep(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = sweep!(model, "x", for layer in 0..30 {
        model.layers[layer].output.at(Seq, -1) = 0.0;
        let _logits = model.lm_head.output;
    })?;
    Ok(())
}

fn main() {}
