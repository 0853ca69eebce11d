//! The logit lens (nostalgebraist 2020): what each layer would predict if it were the last.
//!
//! `cargo run --release --example logit_lens [-- "a prompt"]`

use nnsight::prelude::*;

fn main() -> nnsight::Result<()> {
    let prompt = std::env::args().nth(1).unwrap_or("The Eiffel Tower is in the city of".into());
    let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    let tokenizer = model.tokenizer();

    let layers = trace!(model, &prompt, {
        let lens = model.layers.iter().map(|layer| model.lm_head(model.norm(layer.output)).softmax(Vocab));
        lens.map(|probabilities| (probabilities.max(Vocab), probabilities.argmax(Vocab))).collect::<Vec<_>>()
    })?;

    print!("{:>6}", "");
    for token in tokenizer.encode(&prompt)? {
        print!(" {:<11.11}", tokenizer.decode(&[token])?);
    }
    println!();
    for (layer, (probability, token)) in layers.iter().enumerate().rev() {
        print!("{layer:>5} ");
        let (probability, token) = (probability.get(0)?.to_vec1::<f32>()?, token.get(0)?.to_vec1::<i64>()?);
        for (probability, token) in probability.into_iter().zip(token) {
            let word = tokenizer.decode(&[token as u32])?.escape_debug().to_string();
            // The surer, the bluer.
            let (red, green) = (250 - (200.0 * probability) as u8, 250 - (120.0 * probability) as u8);
            print!(" \x1b[48;2;{red};{green};255m\x1b[30m{word:<11.11}\x1b[0m");
        }
        println!();
    }
    Ok(())
}
