use nnsight::prelude::*;

fn sweep(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = sweep!(model, "x", for layer in 0..30 {
        for later in layer..30 {
            model.layers[later].output.at(Seq, -1) = 0.0;
            model.lm_head.output.norm_all()
        }
    })?;
    Ok(())
}

fn main() {}
