use nnsight::prelude::*;

fn main() {
    let _ = Llama::<Gpt2Small>::load(Source::default());
}
