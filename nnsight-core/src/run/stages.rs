//! A model as the executor sees it.

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::module::{Cx, Forward};

/// A model as a list of stages over a hidden state: the embedding, the layers, the head.
///
/// A position depends on others through attention only, and every attention gives its keys and values to [`Cx::extend`]: that is how prompts are
/// continued, and how runs branch off from others behind the positions that they have in common.
pub trait Stages {
    /// Where it computes.
    fn device(&self) -> &Device;
    /// In which type.
    fn dtype(&self) -> DType;
    /// The number of stages.
    fn count(&self) -> usize;
    /// Runs one stage. The first is given the token ids, each other what the one before it gave.
    ///
    /// # Errors
    /// What a computation or an intervention fails with.
    fn stage(&self, index: usize, state: Tensor, cx: &mut Cx) -> Result<Tensor>;
    /// The first site of the last stage, where that stage treats every position by itself, and runs for those only that the batch asks for.
    fn head(&self) -> Option<usize>;
    /// A module that can be applied by hand.
    fn find(&self, path: &str) -> Option<&dyn Forward>;
}
