//! A row for every token.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, Dim, Seq, Signature};
use nnsight_macros::Module;

/// Looks up a row of the axis `O` for every index into the axis `E`.
#[derive(Module)]
#[module(input: (Batch, Seq) Int, output: (Batch, Seq, O))]
pub struct Embedding<C: Signature, E: Dim<C>, O: Dim<C>> {
    /// `(E, O)`
    #[tap(weight: (E, O), from())]
    weight: Tensor,
    place: Place,
    marker: PhantomData<fn() -> (C, E, O)>,
}

impl<C: Signature, E: Dim<C>, O: Dim<C>> Embedding<C, E, O> {
    /// From a table of shape `(E, O)`.
    pub fn new(weight: Tensor) -> Self {
        Embedding { weight, place: Place::default(), marker: PhantomData }
    }

    /// The table, of shape `(E, O)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

impl<C: Signature, E: Dim<C>, O: Dim<C>> Forward for Embedding<C, E, O> {
    fn forward(&self, indices: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let weight = cx.parameter(Self::WEIGHT, &self.weight)?;
        let rows = weight.index_select(&indices.to_dtype(DType::U32)?.flatten_all()?, 0)?;
        let mut dims = indices.dims().to_vec();
        dims.push(weight.dim(1)?);
        Ok(rows.reshape(dims)?)
    }
}
