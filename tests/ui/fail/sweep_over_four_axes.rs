use nnsight::prelude::*;

fn sweep(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = sweep!(model, "x", for (a, b, c, d) in grid(0..2, 0..2, 0..2, 0..2) {
        model.layers[30].output.at(Seq, a + b + c + d) = 0.0;
        model.lm_head.output.norm_all()
    })?;
    Ok(())
}

fn main() {}
