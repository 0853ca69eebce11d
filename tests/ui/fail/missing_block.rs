use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    trace!(model, "x")?;
    Ok(())
}

fn main() {}
