use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        let best = model.lm_head.output.argmax(Vocab);
        (best * 0.5, best.softmax(Seq))
    })?;
    Ok(())
}

fn main() {}
