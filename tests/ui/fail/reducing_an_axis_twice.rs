use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    let _ = trace!(model, "x", {
        let h = model.layers[3].output;
        h.mean(Seq).mean(Seq)
    })?;
    Ok(())
}

fn main() {}
