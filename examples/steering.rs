//! Steering: a direction is added to the residual stream at every step of a generation, and the text turns.
//!
//! `cargo run --release --example steering`

use std::io::Write as _;

use nnsight::prelude::*;

const PROMPT: &str = "I feel";

fn main() -> nnsight::Result<()> {
    let model = Llama::<SmolLm2_135M>::load(Source::default())?;

    // The direction from one kind of sentence to another, where the stream is about meaning (Turner et al. 2023).
    let direction = trace!(model, {
        let love = invoke!(" I love this, it is wonderful", { model.layers[9].output.at(Seq, -1) });
        let hate = invoke!(" I hate this, it is terrible", { model.layers[9].output.at(Seq, -1) });
        (love - hate).at(Batch, 0)
    })?;

    for strength in [0.0, 2.5, -2.5] {
        print!("{strength:>4}: {PROMPT}");
        let show = |token: nnsight::run::Token| {
            print!("{}", model.tokenizer().decode(&[token.id]).unwrap_or_default().replace('\n', " "));
            let _ = std::io::stdout().flush();
        };
        let norms = generate!(model, PROMPT, max_new_tokens = 20, repetition_penalty = 1.2, on_token = show, {
            for step in model.steps(..) {
                step.layers[9].output += &direction * strength;
            }
            model.steps(..).map(|step| step.layers[9].output.at(Seq, -1).norm(Hidden))
        })?;
        println!("   ({} steps)", norms.len());
    }
    Ok(())
}
