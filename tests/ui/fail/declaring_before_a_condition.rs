use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, wanted: fn(usize) -> bool) -> nnsight::Result<()> {
    trace!(model, "x", {
        for (index, layer) in model.layers.iter().enumerate() {
            let strength;
            if wanted(index) {
                strength = 0.5;
            } else {
                strength = 1.0;
            }
            layer.output *= strength;
        }
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
