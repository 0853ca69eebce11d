//! Reads and changes the inside of a real language model.
//!
//! `cargo run --release --example quickstart`

use nnsight::prelude::*;

const CLEAN: &str = "When John and Mary went to the store, John gave a drink to";
const CORRUPTED: &str = "When John and Mary went to the store, Mary gave a drink to";

fn main() -> nnsight::Result<()> {
    let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    let prompt = "The Eiffel Tower is in the city of";
    println!("{prompt:?}\n");

    // Read: the block's value is what comes back.
    let (hidden, logits) = trace!(model, prompt, { (model.layers[10].output, model.lm_head.output.at(Seq, -1)) })?;
    println!("prediction           {}", model.tokenizer().decode_top(&logits, 3)?);
    println!("after layer 10       {hidden:?}");

    // Change: whatever is assigned to is what the model goes on with.
    let logits = trace!(model, prompt, {
        model.layers[5].mlp.output *= 0.0;
        model.layers[10].output.at(Seq, -1) += 2.0;
        model.lm_head.output.at(Seq, -1)
    })?;
    println!("after the edit       {}\n", model.tokenizer().decode_top(&logits, 3)?);

    // Patch: a value of one prompt takes the place of another's, in one pass.
    let (clean, corrupted, patched) = trace!(model, {
        let (name, clean) = invoke!(CLEAN, { (model.layers[14].output.at(Seq, 9), model.lm_head.output.at(Seq, -1)) });
        let corrupted = invoke!(CORRUPTED, { model.lm_head.output.at(Seq, -1) });
        let patched = invoke!(CORRUPTED, {
            model.layers[14].output.at(Seq, 9) = name;
            model.lm_head.output.at(Seq, -1)
        });
        (clean, corrupted, patched)
    })?;
    println!("{CLEAN:?}\n  {}", model.tokenizer().decode_top(&clean, 2)?);
    println!("{CORRUPTED:?}\n  {}", model.tokenizer().decode_top(&corrupted, 2)?);
    println!("the same, with position 9 after layer 14 from the first\n  {}", model.tokenizer().decode_top(&patched, 2)?);
    Ok(())
}
