use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    trace!(model, "x", {
        let h = model.layers[3].output.value();
        h.at(Seq, -1) = 0.0;
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
