use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let text = generate!(model, "x", max_new_tokens = 20, { model.tokens().decode() })?;
    println!("{text}");
    Ok(())
}

fn main() {}
