use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, texts: &[&String]) -> nnsight::Result<()> {
    trace!(model, texts, { model.lm_head.output })?;
    Ok(())
}

fn main() {}
