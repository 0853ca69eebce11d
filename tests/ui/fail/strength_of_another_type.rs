use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, direction: Tensor<SmolLm2_135M, (Hidden,)>, strength: f32) -> nnsight::Result<()> {
    let tokens = generate!(model, "x", max_new_tokens = 20, {
        for step in model.steps(..) {
            step.layers[9].output += &direction * strength;
        }
        model.tokens()
    })?;
    println!("{tokens}");
    Ok(())
}

fn main() {}
