//! Attribution patching (Nanda 2023): how much each layer and position would matter if it were patched, from two forward passes and one
//! backward, for all of them at once.
//!
//! `cargo run --release --example attribution_patching`

use nnsight::prelude::*;

const CLEAN: &str = "When John and Mary went to the store, John gave a drink to";
const CORRUPTED: &str = "When John and Mary went to the store, Mary gave a drink to";

fn main() -> nnsight::Result<()> {
    let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    let (mary, john) = (model.tokenizer().token(" Mary")?, model.tokenizer().token(" John")?);

    let (difference, attribution) = trace!(model, {
        let clean = invoke!(CLEAN, { model.layers.iter().map(|layer| layer.output.value()).collect::<Vec<_>>() });
        invoke!(CORRUPTED, {
            let logits = model.lm_head.output.at(Seq, -1);
            let difference = logits.pick(Vocab, mary) - logits.pick(Vocab, john);
            let effects = model.layers.iter().zip(&clean).map(|(layer, clean)| {
                let h = layer.output;
                ((*clean - h) * h.grad(difference)).sum(Hidden)
            });
            (difference, effects.collect::<Vec<_>>())
        })
    })?;

    println!("corrupted: logit difference {:.3}", difference.to_vec1::<f32>()?[0]);
    let tokens = model.tokenizer().encode(CORRUPTED)?;
    let words = tokens.iter().map(|token| model.tokenizer().decode(&[*token])).collect::<Result<Vec<_>, _>>()?;
    println!("\nwhat patching a layer's output would add, by layer and position:");
    println!("     {}", words.iter().skip(8).map(|word| format!("{word:>8}")).collect::<String>());
    for (layer, effects) in attribution.iter().enumerate().step_by(3) {
        let effects = effects.to_vec2::<f32>()?;
        println!("{layer:>4} {}", effects[0].iter().skip(8).map(|effect| format!("{effect:>8.2}")).collect::<String>());
    }
    Ok(())
}
