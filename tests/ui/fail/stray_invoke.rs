use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    invoke!("x", { model.lm_head.output });
    Ok(())
}

fn main() {}
