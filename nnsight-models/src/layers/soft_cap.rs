//! What keeps values below a number.

use std::marker::PhantomData;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, DimName, Signature};
use nnsight_lm::Seq;
use nnsight_macros::Module;

use crate::Result as Loaded;
use crate::loading::{Load, Loader};

/// `cap * tanh(x / cap)` along the axis `D` (Gemma Team 2024), or `x` if there is no cap.
#[derive(Module)]
#[module(input: (Batch, Seq, D), output: (Batch, Seq, D), pointwise(D, D))]
pub struct SoftCap<C: Signature, D: DimName> {
    cap: Option<f64>,
    place: Place,
    marker: PhantomData<fn() -> (C, D)>,
}

/// How a [`SoftCap`] is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftCapOptions {
    /// What values are kept below, if there is such a number.
    pub cap: Option<f64>,
}

impl<F, C: Signature, D: DimName> Load<F> for SoftCap<C, D> {
    type Options = SoftCapOptions;

    fn load(_: &mut Loader<'_, F>, SoftCapOptions { cap }: SoftCapOptions) -> Loaded<Self> {
        Ok(SoftCap { cap, place: Place::default(), marker: PhantomData })
    }
}

impl<C: Signature, D: DimName> Forward for SoftCap<C, D> {
    fn forward(&self, x: &Tensor, _: &mut Cx) -> Result<Tensor> {
        match self.cap {
            Some(cap) => Ok(capped(x, cap)?),
            None => Ok(x.clone()),
        }
    }
}

/// `cap * tanh(x / cap)`
pub(super) fn capped(x: &Tensor, cap: f64) -> candle_core::Result<Tensor> {
    (x / cap)?.tanh()? * cap
}
