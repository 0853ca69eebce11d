use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        let place: Site<SmolLm2_135M, (Batch, Seq, Hidden)> = model.layers[3].output;
        place
    })?;
    Ok(())
}

fn main() {}
