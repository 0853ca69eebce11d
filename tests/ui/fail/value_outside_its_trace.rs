use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let mut kept = Vec::new();
    trace!(model, "x", {
        kept.push(model.layers[3].output.value());
        model.lm_head.output
    })?;
    println!("{kept:?}");
    Ok(())
}

fn main() {}
