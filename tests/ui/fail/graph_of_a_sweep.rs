use nnsight::prelude::*;

fn graphs(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = graph!(model, "x", checkpoint = "grid.safetensors", for layer in 0..30 {
        model.layers[layer].output.at(Seq, -1) = 0.0;
        model.lm_head.output.norm_all()
    })?;
    let _ = graph!(model, "x", for layer in 0..30 {
        for point in grid(0..9, 0..14) {
            model.layers[layer].output.at(Seq, -1) = 0.0;
            model.lm_head.output.norm_all()
        }
    })?;
    Ok(())
}

fn main() {}
