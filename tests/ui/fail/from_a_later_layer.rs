use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, _: ()) -> nnsight::Result<()> {
    trace!(model, "x", {
        let late = model.layers[9].output;
        model.layers[3].mlp.output = late * 2.0;
        model.layers[4].output += model.layers[5].output;
        model.lm_head.output
    })?;
    Ok(())
}

fn main() {}
