use nnsight::prelude::*;

fn steps(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let _ = generate!(model, "x", max_new_tokens = 3, {
        for step in model.steps(..) {
            step.layers[30].output *= 0.0;
        }
        model.tokens()
    })?;
    Ok(())
}

fn main() {}
