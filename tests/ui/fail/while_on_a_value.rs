use nnsight::prelude::*;

fn halve(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = trace!(model, "x", {
        let mut h = model.layers[3].output.value();
        while h.norm_all().gt(1.0) {
            h = h * 0.5;
        }
        h
    })?;
    Ok(())
}

fn main() {}
