//! What a module computes.

use candle_core::Tensor;
use nnsight_kernels::MaybeOwned;

use super::Cx;
use crate::Result;
use crate::graph::Axis;
use crate::types::DimName;

/// What a module computes. Inside, submodules are called through the context: `cx.call(&self.mlp, &x)?`.
pub trait Forward {
    /// Runs the module.
    ///
    /// # Errors
    /// What a computation or an intervention fails with.
    fn forward(&self, input: &Tensor, cx: &mut Cx) -> Result<Tensor>;

    /// As [`Forward::forward`], for a caller that overwrites the result if nobody else holds it. A module that ends with a kernel passes on
    /// whether its result is owned; of others it is not.
    ///
    /// # Errors
    /// As [`Forward::forward`].
    fn forward_owned(&self, input: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        self.forward(input, cx).map(MaybeOwned::shared)
    }
}

/// A module that treats every position by itself, and so can be applied by hand to a value of any shape that ends with its input's axis.
#[diagnostic::on_unimplemented(message = "`{Self}` mixes positions and cannot be applied by hand")]
pub trait Pointwise: Forward {
    /// The innermost axis of its input.
    type In: DimName;
    /// The innermost axis of its output.
    type Out: DimName;
}

/// The innermost axes of a pointwise module.
#[doc(hidden)]
pub fn innermost<M: Pointwise>() -> Option<(Axis, Axis)> {
    Some((M::In::axis(M::In::FIXED), M::Out::axis(M::Out::FIXED)))
}
