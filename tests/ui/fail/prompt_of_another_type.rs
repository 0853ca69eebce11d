use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    let _ = trace!(model, 3.5, { model.lm_head.output })?;
    Ok(())
}

fn main() {}
