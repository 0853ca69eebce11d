//! How deep the graph is that candle records for gradients. candle walks through it, and drops it, by recursion: what would be too deep for the
//! stack of a thread is cut, as a value is whose gradient is asked for.

use std::collections::HashMap;

use candle_core::{Result, Tensor, TensorId};
use nnsight_kernels::MaybeOwned;

use super::evaluate::Datum;
use super::interleave::Interleaver;

/// How many nodes one may come to depend on through the others: of some, candle records about ten operations.
const DEEPEST: u32 = 256;

/// How much deeper the keys and values make each step of a generation.
const STEP: u32 = 32;

/// How deep each value is that a gradient may go through.
#[derive(Default)]
pub(super) struct Depths {
    values: HashMap<TensorId, u32>,
    /// That of what the model holds.
    held: u32,
}

impl Depths {
    fn of(&self, datum: &Datum) -> u32 {
        match datum {
            Datum::Tensor(tensor) => self.values.get(&tensor.id()).copied().unwrap_or(0),
            Datum::Several(values) => values.iter().map(|value| self.of(value)).max().unwrap_or(0),
            Datum::Number(_) | Datum::Fused(_) => 0,
        }
    }

    /// The depth of what is computed from some values.
    pub fn above<'d>(&self, values: impl IntoIterator<Item = &'d Datum>) -> u32 {
        values.into_iter().map(|value| self.of(value)).max().unwrap_or(0) + 1
    }

    /// Begins a pass: one over new prompts depends on nothing that was before.
    pub fn start_pass(&mut self, step: u32) {
        self.held = if step == 0 { 0 } else { self.held + STEP };
    }
}

impl Interleaver<'_> {
    /// A value of a depth, cut from what it depends on if that is too deep.
    pub(super) fn bounded(&mut self, depth: u32, datum: Datum) -> Result<Datum> {
        match datum {
            Datum::Tensor(tensor) if tensor.track_op() => self.bounded_tensor(depth, tensor).map(|(tensor, _)| Datum::Tensor(tensor)),
            other => Ok(other),
        }
    }

    fn bounded_tensor(&mut self, depth: u32, tensor: Tensor) -> Result<(Tensor, u32)> {
        if depth <= DEEPEST {
            self.depths.values.insert(tensor.id(), depth);
            return Ok((tensor, depth));
        }
        // No gradient goes through whole numbers.
        let cut = if tensor.dtype().is_float() { self.gradients.cut(None, &tensor, Vec::new())? } else { tensor.detach() };
        Ok((cut, 0))
    }

    /// What is read from the model is as deep as what the model holds.
    pub(super) fn read_at_depth(&mut self, read: &Tensor) {
        if read.track_op() {
            self.depths.values.insert(read.id(), self.depths.held + 1);
        }
    }

    /// What the model goes on with after `written` was written into it, cut if it is too deep.
    pub(super) fn held_at_depth(&mut self, value: MaybeOwned, written: &Datum) -> Result<MaybeOwned> {
        if !value.track_op() {
            return Ok(value);
        }
        let depth = self.depths.above([written]).max(self.depths.held + 1);
        let (value, depth) = self.bounded_tensor(depth, value.into_tensor())?;
        self.depths.held = depth;
        Ok(MaybeOwned::shared(value))
    }

    /// The model goes on with a leaf.
    pub(super) fn held_is_cut(&mut self) {
        self.depths.held = 0;
    }
}
