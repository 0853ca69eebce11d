use nnsight::prelude::*;

fn scaled(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let hidden = trace!(model, ["I love you", "I hate you"], { model.layers[9].output.at(Seq, -1) })?;
    let direction = &hidden.at(Batch, 0) - &hidden.at(Batch, 1);
    trace!(model, "I feel", {
        model.layers[9].output += direction * 3.0;
        model.lm_head.output
    })?;
    Ok(())
}

fn added(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let hidden = trace!(model, ["I love you", "I hate you"], { model.layers[9].output.at(Seq, -1) })?;
    let direction = &hidden.at(Batch, 0) - &hidden.at(Batch, 1);
    trace!(model, "I feel", {
        model.layers[9].output += &direction;
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
