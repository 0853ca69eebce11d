//! Modules of one's own, whatever their parameters are called.

use nnsight::Module;
use nnsight::candle_core::Tensor as Candle;
use nnsight::module::{Cx, Forward, Place, Role};
use nnsight::prelude::*;

use crate::shared::{difference, tiny_llama};

dim!(pub Features = 48);

/// Its parameters have the names that generated code would choose for its own.
#[derive(Module)]
#[module(sites = ScaleSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
struct Scale<V: 'static, S: Signature, K: 'static> {
    #[tap(doubled: (Batch, Seq, Hidden), from(input))]
    marker: std::marker::PhantomData<fn() -> (V, S, K)>,
    place: Place,
}

/// One that has a child which can be applied by hand.
#[derive(Module)]
#[module(sites = OuterSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
struct Outer<S>
where
    S: Signature,
{
    #[child(pointwise)]
    inner: Inner<S>,
    place: Place,
}

#[derive(Module)]
#[module(sites = InnerSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
struct Inner<V: Signature> {
    marker: std::marker::PhantomData<fn() -> V>,
    place: Place,
}

impl<V: 'static, S: Signature, K: 'static> Forward for Scale<V, S, K> {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        cx.tap(Self::DOUBLED, (x * 2.0)?)
    }
}
impl<V: Signature> Forward for Inner<V> {
    fn forward(&self, x: &Candle, _cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        Ok((x * 2.0)?)
    }
}
impl<S: Signature> Forward for Outer<S> {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle, nnsight::TraceError> {
        cx.call(&self.inner, x)
    }
}

#[test]
fn parameters_of_any_name() {
    let model = tiny_llama();
    let outer = Outer::<Dynamic> { inner: Inner { marker: std::marker::PhantomData, place: Place::default() }, place: Place::default() };
    let model = model.attach("outer", Role::Probe("layers.1.output"), outer).unwrap();
    let (h, doubled, by_hand) = trace!(model, vec![3, 17, 5], {
        let h = model.layers[1].output;
        (h, model.attached.inner.output, model.attached.inner(h))
    })
    .unwrap();
    assert!(difference(&doubled, &(&*h * 2.0).unwrap()) < 1e-6 && difference(&by_hand, &doubled) < 1e-6);
    let _ = std::mem::size_of::<Scale<(), Dynamic, ()>>();
}
