//! A matrix, and a bias where there is one.

use std::marker::PhantomData;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, Dim, Seq, Signature};
use nnsight_macros::Module;

use super::product::product;

/// `y = x W + b`, from the axis `I` to the axis `O`.
#[derive(Module)]
#[module(input: (Batch, Seq, I), output: (Batch, Seq, O), pointwise(I, O))]
pub struct Linear<C: Signature, I: Dim<C>, O: Dim<C>> {
    /// `(I, O)`, whatever the order in memory.
    #[tap(weight: (I, O), from())]
    weight: Tensor,
    /// `(O,)`
    bias: Option<Tensor>,
    place: Place,
    marker: PhantomData<fn() -> (C, I, O)>,
}

impl<C: Signature, I: Dim<C>, O: Dim<C>> Linear<C, I, O> {
    /// From a weight of shape `(I, O)`, which may be a transposed view.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Linear { weight, bias, place: Place::default(), marker: PhantomData }
    }

    /// The matrix, of shape `(I, O)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

impl<C: Signature, I: Dim<C>, O: Dim<C>> Forward for Linear<C, I, O> {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let weight = cx.parameter(Self::WEIGHT, &self.weight)?;
        // One product over all rows is much faster than one for each prompt.
        let (inner, outer) = weight.dims2()?;
        let rows = x.elem_count() / inner;
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outer;
        }
        let y = product(&x.reshape((rows, inner))?, &weight)?.reshape(dims)?;
        match &self.bias {
            None => Ok(y),
            Some(bias) => Ok(y.broadcast_add(bias)?),
        }
    }
}
