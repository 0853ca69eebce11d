use nnsight::Module;
use nnsight::module::Place;
use nnsight::prelude::*;

#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
struct Gate<C: Signature> {
    #[tap(score: (Batch, Seq), from(imput))]
    #[tap(gated: (Batch, Seq, Hidden), from(score, later))]
    marker: std::marker::PhantomData<C>,
    place: Place,
}

fn main() {}
