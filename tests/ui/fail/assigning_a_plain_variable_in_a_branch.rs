use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let mut scale = 1.0;
    let mut count = 0;
    trace!(model, "x", {
        let h = model.layers[3].output;
        if h.mean_all().gt(0.0) {
            scale = 0.0;
            count += 1;
        }
        model.layers[4].output *= scale;
        model.lm_head.output
    })?;
    println!("{count}");
    Ok(())
}

fn main() {}
