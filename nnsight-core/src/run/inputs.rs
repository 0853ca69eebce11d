//! What a graph is run on, as the kind of its model reads it.

use candle_core::{DType, Device, Tensor};
use nnsight_kernels::Extent;

use crate::Result;
use crate::batch::AnyBatch;
use crate::graph::Rollout;
use crate::observer::Emitted;

/// What a graph is run on, as the kind of its model reads it: how inputs become batches, and how their runs go on.
pub trait Inputs: Sync {
    /// For every invoke the number of positions of each of its inputs. An invoke that sees all inputs has none of its own.
    fn lengths(&self) -> &[Vec<usize>];

    /// The first pass of some inputs side by side.
    ///
    /// # Errors
    /// If the device fails, or numbers of an input do not fit into the model's type.
    fn batch(&self, inputs: &[InputId], device: &Device, dtype: DType) -> Result<FirstPass>;

    /// The first pass of some inputs of equal length, of which the first `from` positions are known from another run.
    ///
    /// # Errors
    /// If the device fails.
    fn branch(&self, inputs: &[InputId], from: usize, device: &Device) -> Result<Box<dyn AnyBatch>>;

    /// How the runs of some inputs go on.
    ///
    /// # Errors
    /// If the settings mean nothing.
    fn rollout(&self, rollout: &Rollout, inputs: &[InputId], device: &Device) -> Result<Box<dyn Stepper + '_>>;
}

/// Which input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InputId {
    /// Of which invoke.
    pub invoke: usize,
    /// Which of its inputs.
    pub input: usize,
}

/// The first pass of some inputs.
pub struct FirstPass {
    /// What the model is given.
    pub batch: Box<dyn AnyBatch>,
    /// What is put in place of what the model computes, where an input says so.
    pub writes: Vec<Write>,
}

/// A part of a site's value that an input replaces.
#[derive(Clone, Debug)]
pub struct Write {
    /// The site.
    pub site: usize,
    /// Which part of its value.
    pub part: Vec<Extent>,
    /// What is put there.
    pub value: Tensor,
}

/// The runs of some inputs as they go on, step after step.
pub trait Stepper {
    /// Ends the runs of an invoke with a step.
    fn end(&mut self, invoke: usize, step: u32);

    /// What follows on a step whose last stage returned `output`: the next pass, or `None` if all runs have ended.
    ///
    /// # Errors
    /// If the device fails, or something that the settings ask for cannot be had.
    fn next(&mut self, output: &Tensor, step: usize, told: &mut Option<&mut dyn FnMut(Emitted)>) -> Result<Option<Box<dyn AnyBatch>>>;

    /// What came out of the runs of an invoke, or of all.
    ///
    /// # Errors
    /// If the device fails.
    fn output(&self, invoke: Option<usize>) -> Result<RolledOut>;
}

/// What came out of a rollout.
#[derive(Clone, Debug)]
pub struct RolledOut {
    /// The values, a row for each input.
    pub value: Tensor,
    /// How many entries are each row's own along the axis of positions, if that differs.
    pub lengths: Option<Vec<usize>>,
    /// For each row the step with which its run ended, if it did.
    pub ended: Vec<Option<u32>>,
}
