//! Activation patching (Meng et al. 2022, Wang et al. 2023): which layer and position carries the name?
//!
//! The two prompts differ in one name, and so in who is given the drink. Each cell of the table is the difference between the logits of both
//! answers when the residual stream at one layer and position of the second prompt is replaced by that of the first.
//!
//! `cargo run --release --example activation_patching`

use nnsight::prelude::*;

const CLEAN: &str = "When John and Mary went to the store, John gave a drink to";
const CORRUPTED: &str = "When John and Mary went to the store, Mary gave a drink to";

fn main() -> nnsight::Result<()> {
    let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    let tokenizer = model.tokenizer();
    let (mary, john) = (tokenizer.token(" Mary")?, tokenizer.token(" John")?);
    let words = tokenizer.encode(CORRUPTED)?.into_iter().map(|token| tokenizer.decode(&[token])).collect::<nnsight::Result<Vec<_>>>()?;

    // The residual stream of the clean prompt, and where both prompts stand without a patch.
    let (clean, ends) = trace!(model, {
        let (layers, clean) = invoke!(CLEAN, {
            let logits = model.lm_head.output.at(Seq, -1);
            (model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>(), logits.pick(Vocab, mary) - logits.pick(Vocab, john))
        });
        let corrupted = invoke!(CORRUPTED, {
            let logits = model.lm_head.output.at(Seq, -1);
            logits.pick(Vocab, mary) - logits.pick(Vocab, john)
        });
        (layers, (clean, corrupted))
    })?;
    println!("Mary − John: {:+.3} clean, {:+.3} corrupted\n", ends.0.get(0)?.to_scalar::<f32>()?, ends.1.get(0)?.to_scalar::<f32>()?);

    print!("{:>6}", "");
    words.iter().for_each(|word| print!("{word:>7.6}"));
    println!();
    // All cells at once: what they have in common is run once, and each goes its own way from its layer and position on.
    let grid = sweep!(
        model,
        CORRUPTED,
        for (layer, position) in grid(0..model.depth(), 0..words.len()) {
            model.layers[layer].output.at(Seq, position) = clean[layer].at(Seq, position as i64);
            let logits = model.lm_head.output.at(Seq, -1);
            logits.pick(Vocab, mary) - logits.pick(Vocab, john)
        }
    )?;
    for (layer, row) in grid.squeeze(2)?.to_vec2::<f32>()?.into_iter().enumerate() {
        print!("{layer:>5} ");
        for difference in row {
            // From red, as corrupted, to green, as clean.
            let share = ((difference + 6.5) / 11.1).clamp(0.0, 1.0);
            let (red, green) = (240 - (180.0 * share) as u8, 90 + (150.0 * share) as u8);
            print!("\x1b[48;2;{red};{green};120m\x1b[30m{difference:>7.2}\x1b[0m");
        }
        println!();
    }
    Ok(())
}
