//! A row for every token.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, Dim, Seq, Signature};
use nnsight_macros::Module;

/// Looks up a row of the axis `O` for every index.
#[derive(Module)]
#[module(input: (Batch, Seq) Int, output: (Batch, Seq, O))]
pub struct Embedding<C: Signature, O: Dim<C>> {
    /// `(entries, O)`
    weight: Tensor,
    place: Place,
    marker: PhantomData<fn() -> (C, O)>,
}

impl<C: Signature, O: Dim<C>> Embedding<C, O> {
    /// From a table of shape `(entries, O)`.
    pub fn new(weight: Tensor) -> Self {
        Embedding { weight, place: Place::default(), marker: PhantomData }
    }

    /// The table, of shape `(entries, O)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

impl<C: Signature, O: Dim<C>> Forward for Embedding<C, O> {
    fn forward(&self, indices: &Tensor, _cx: &mut Cx) -> Result<Tensor> {
        let rows = self.weight.index_select(&indices.to_dtype(DType::U32)?.flatten_all()?, 0)?;
        let mut dims = indices.dims().to_vec();
        dims.push(self.weight.dim(1)?);
        Ok(rows.reshape(dims)?)
    }
}
