use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>) -> nnsight::Result<()> {
    let mary = model.tokenizer().token(" Mary")?;
    let logits = trace!(model, "x", { model.lm_head.output.at(Seq, -1) })?;
    println!("{}", logits.pick(Vocab, mary));
    Ok(())
}

fn main() {}
