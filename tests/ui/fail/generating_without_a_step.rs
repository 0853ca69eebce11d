use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    generate!(model, "x", max_new_tokens = 4, {
        model.layers[3].output *= 0.5;
        (model.lm_head.output, model.tokens())
    })?;
    Ok(())
}

fn main() {}
