use nnsight::prelude::*;

fn main() {
    let model = Llama::<SmolLm2_135M>::load(Source::default()).unwrap();
    let hidden = trace!(model, "Hello", { model.layers[3].output.at(Seq, -1) }).unwrap();
    model.tokenizer().decode_top(&hidden, 5);
}
