//! A row for every token.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, DimName, Signature};
use nnsight_kernels::{Matrix, upcast};
use nnsight_lm::Seq;
use nnsight_macros::Module;

/// Looks up a row of the axis `O` for every index into the axis `E`.
#[derive(Module)]
#[module(input: (Batch, Seq) Int, output: (Batch, Seq, O))]
pub struct Embedding<C: Signature, E: DimName, O: DimName> {
    /// From `O` to `E`, so that it can be the head's.
    #[tap(weight: (E, O), from())]
    weight: Matrix,
    place: Place,
    marker: PhantomData<fn() -> (C, E, O)>,
}

impl<C: Signature, E: DimName, O: DimName> Embedding<C, E, O> {
    /// From a matrix from `O` to `E`: a head's, or a table of shape `(E, O)`, transposed.
    pub fn new(weight: impl Into<Matrix>) -> Self {
        Embedding { weight: weight.into(), place: Place::default(), marker: PhantomData }
    }
}

impl<C: Signature, E: DimName, O: DimName> Forward for Embedding<C, E, O> {
    fn forward(&self, indices: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let flat = indices.to_dtype(DType::U32)?.flatten_all()?;
        let rows = match cx.wants(&[Self::WEIGHT]) {
            false => self.weight.rows(&flat)?,
            true => {
                let weight = cx.parameter(Self::WEIGHT, &self.weight.tensor()?.t()?.contiguous()?)?;
                // A row's gradient is added up over all tokens that take it.
                let rows = if weight.track_op() { upcast(&weight)? } else { weight.clone() }.index_select(&flat, 0)?;
                rows.to_dtype(weight.dtype())?
            }
        };
        let mut dims = indices.dims().to_vec();
        dims.push(rows.dim(1)?);
        Ok(rows.reshape(dims)?)
    }
}
