use nnsight::prelude::*;

fn session(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let mut kept = None;
    session!(model, {
        let h = trace!(model, "x", { model.layers[3].output });
        kept = Some(h);
    })?;
    println!("{kept:?}");
    Ok(())
}

fn main() {}
