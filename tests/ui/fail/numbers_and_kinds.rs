use nnsight::prelude::*;

fn whole(model: &Llama<SmolLm2_135M>, factor: f32) -> nnsight::Result<()> {
    trace!(model, "x", {
        let best = model.lm_head.output.argmax(Vocab);
        (0.5 * best, best.gt(0.5), best * factor)
    })?;
    Ok(())
}

fn booleans(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    trace!(model, "x", {
        let large = model.layers[3].output.gt(0.0);
        (large * 2, large.eq(1))
    })?;
    Ok(())
}

fn list(model: &Llama<SmolLm2_135M>, direction: Vec<f32>) -> nnsight::Result<()> {
    trace!(model, "x", { model.layers[3].output + direction })?;
    Ok(())
}

fn main() {}
