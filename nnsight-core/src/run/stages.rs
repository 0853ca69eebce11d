//! A model as the executor sees it.

use candle_core::{DType, Device, Tensor};

use super::state::{AnyState, State};
use crate::Result;
use crate::module::{Cx, Forward};

/// A model as a list of stages: an embedding, layers, a head. What flows from stage to stage is up to the model.
pub trait StagedModel {
    /// What flows from stage to stage: one tensor, several streams, what skips some of them.
    type State: State;
    /// Where it computes.
    fn device(&self) -> &Device;
    /// In which type.
    fn dtype(&self) -> DType;
    /// The number of stages.
    fn count(&self) -> usize;
    /// What the first stage is given.
    ///
    /// # Errors
    /// If the pass is given a batch of another kind of models.
    fn begin(&self, cx: &mut Cx) -> Result<Self::State>;
    /// Runs one stage. Each is given what the one before it returned.
    ///
    /// # Errors
    /// What a computation or an intervention fails with.
    fn stage(&self, index: usize, state: Self::State, cx: &mut Cx) -> Result<Self::State>;
    /// What the model computes, of what the last stage returned.
    fn output(&self, state: Self::State) -> Tensor;
    /// The first site of the last stage, if that stage treats every position by itself, and runs for those only that are wanted
    /// ([`Cx::for_head`]).
    fn head(&self) -> Option<usize>;
    /// A module that can be applied by hand.
    fn find(&self, path: &str) -> Option<&dyn Forward>;
}

/// A [`StagedModel`] of whatever state, so that what runs it is compiled once.
pub trait Stages {
    /// As [`StagedModel::device`].
    fn device(&self) -> &Device;
    /// As [`StagedModel::dtype`].
    fn dtype(&self) -> DType;
    /// As [`StagedModel::count`].
    fn count(&self) -> usize;
    /// As [`StagedModel::begin`].
    ///
    /// # Errors
    /// As [`StagedModel::begin`].
    fn begin(&self, cx: &mut Cx) -> Result<AnyState>;
    /// As [`StagedModel::stage`].
    ///
    /// # Errors
    /// As [`StagedModel::stage`].
    fn stage(&self, index: usize, state: AnyState, cx: &mut Cx) -> Result<AnyState>;
    /// As [`StagedModel::output`].
    ///
    /// # Errors
    /// If the state is another model's.
    fn output(&self, state: AnyState) -> Result<Tensor>;
    /// As [`StagedModel::head`].
    fn head(&self) -> Option<usize>;
    /// As [`StagedModel::find`].
    fn find(&self, path: &str) -> Option<&dyn Forward>;
}

impl<M: StagedModel> Stages for M {
    fn device(&self) -> &Device {
        StagedModel::device(self)
    }
    fn dtype(&self) -> DType {
        StagedModel::dtype(self)
    }
    fn count(&self) -> usize {
        StagedModel::count(self)
    }
    fn begin(&self, cx: &mut Cx) -> Result<AnyState> {
        Ok(AnyState::new(StagedModel::begin(self, cx)?))
    }
    fn stage(&self, index: usize, state: AnyState, cx: &mut Cx) -> Result<AnyState> {
        Ok(AnyState::new(StagedModel::stage(self, index, state.into_inner()?, cx)?))
    }
    fn output(&self, state: AnyState) -> Result<Tensor> {
        Ok(StagedModel::output(self, state.into_inner()?))
    }
    fn head(&self) -> Option<usize> {
        StagedModel::head(self)
    }
    fn find(&self, path: &str) -> Option<&dyn Forward> {
        StagedModel::find(self, path)
    }
}
