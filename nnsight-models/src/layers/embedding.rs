//! A row for every token.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, DimName, Signature};
use nnsight_kernels::{Matrix, upcast};
use nnsight_lm::Seq;
use nnsight_macros::Module;

use crate::Result as Loaded;
use crate::loading::{Load, Loader};

/// Looks up a row of the axis `O` for every index into the axis `E`, times a number.
#[derive(Module)]
#[module(input: (Batch, Seq) Int, output: (Batch, Seq, O))]
pub struct Embedding<C: Signature, E: DimName, O: DimName> {
    /// From `O` to `E`, so that it can be the head's.
    #[tap(weight: (E, O), from())]
    weight: Matrix,
    scale: f64,
    place: Place,
    marker: PhantomData<fn() -> (C, E, O)>,
}

impl<C: Signature, E: DimName, O: DimName> Embedding<C, E, O> {
    /// From a matrix from `O` to `E`: a head's, or a table of shape `(E, O)`, transposed.
    pub fn new(weight: impl Into<Matrix>) -> Self {
        Embedding { weight: weight.into(), scale: 1.0, place: Place::default(), marker: PhantomData }
    }
}

/// How an [`Embedding`] is read.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingOptions {
    /// By what every row is multiplied: 1, if nothing else is said.
    pub scale: f64,
}

impl Default for EmbeddingOptions {
    fn default() -> Self {
        EmbeddingOptions { scale: 1.0 }
    }
}

impl<F, C: Signature, E: DimName, O: DimName> Load<F> for Embedding<C, E, O> {
    type Options = EmbeddingOptions;

    fn load(loader: &mut Loader<'_, F>, EmbeddingOptions { scale }: EmbeddingOptions) -> Loaded<Self> {
        let (shape, name) = ([loader.size::<E>()?, loader.size::<O>()?], loader.name("weight"));
        Ok(Embedding { scale, ..Embedding::new(loader.weights().table(&name, shape)?) })
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
        let rows = rows.reshape(dims)?;
        match self.scale == 1.0 {
            true => Ok(rows),
            // The factor is rounded to the type of the weights, as it was when the model was trained.
            false => Ok(rows.broadcast_mul(&Tensor::new(self.scale, rows.device())?.to_dtype(rows.dtype())?)?),
        }
    }
}
