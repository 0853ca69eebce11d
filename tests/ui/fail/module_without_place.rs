use nnsight::Module;
use nnsight::types::Signature;

#[derive(Module)]
struct Probe<C: Signature> {
    marker: std::marker::PhantomData<C>,
}

fn main() {}
