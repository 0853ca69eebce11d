//! Gradients, piece by piece from the loss backwards.
//!
//! candle's `backward` keeps gradients of leaves only. Where a gradient is asked for, the value is cut off from what came before, and the
//! model goes on with a leaf in its place. What arrives at a leaf can be read and replaced, and is then taken on to what stood before it.

use std::collections::HashMap;

use candle_core::{Result, Tensor, Var};
use nnsight_kernels::{self as kernels, Extent};

use crate::graph::NodeId;

/// The cuts of a run, and how far the gradients of each loss have come back.
#[derive(Default)]
pub(super) struct Gradients {
    cuts: Vec<Cut>,
    /// The cut of each node whose gradient is asked for.
    places: HashMap<NodeId, usize>,
    losses: HashMap<NodeId, Way>,
}

struct Cut {
    /// What stood here.
    before: Tensor,
    /// What everything after it comes from.
    leaf: Tensor,
    /// The part of it whose gradient is asked for.
    part: Vec<Extent>,
}

struct Way {
    /// The cuts from here on have been passed.
    passed: usize,
    /// What has arrived at each cut.
    arrived: HashMap<usize, Tensor>,
}

impl Gradients {
    /// Cuts a value off from what came before; returns what to go on with. The node, if its gradient is asked for, is the part of it that the
    /// extents describe.
    pub fn cut(&mut self, node: impl Into<Option<NodeId>>, value: &Tensor, part: Vec<Extent>) -> Result<Tensor> {
        let leaf = Var::from_tensor(&value.detach().force_contiguous()?)?.into_inner();
        if let Some(node) = node.into() {
            self.places.entry(node).or_insert(self.cuts.len());
        }
        self.cuts.push(Cut { before: value.clone(), leaf: leaf.clone(), part });
        Ok(leaf)
    }

    /// The gradient of `loss` with respect to a node, or `None` where none arrives.
    pub fn get(&mut self, node: NodeId, loss: NodeId, value: &Tensor) -> Result<Option<Tensor>> {
        let Some(cut) = self.go_back(node, loss, value)? else { return Ok(None) };
        match self.losses.get(&loss).and_then(|way| way.arrived.get(&cut)) {
            None => Ok(None),
            Some(gradient) => Ok(Some(kernels::part(gradient, &self.cuts[cut].part)?)),
        }
    }

    /// Replaces the gradient of `loss` with respect to a node on its way back.
    pub fn set(&mut self, node: NodeId, loss: NodeId, value: &Tensor, new: &Tensor) -> Result<bool> {
        let Some(cut) = self.go_back(node, loss, value)? else { return Ok(false) };
        let Some(arrived) = self.losses.get_mut(&loss).and_then(|way| way.arrived.get_mut(&cut)) else { return Ok(false) };
        *arrived = kernels::patch(&arrived.force_contiguous()?, &self.cuts[cut].part, &new.detach())?;
        Ok(true)
    }

    /// Takes the gradients of a loss back to the cut of a node; gives the cut.
    fn go_back(&mut self, node: NodeId, loss: NodeId, value: &Tensor) -> Result<Option<usize>> {
        let Some(&target) = self.places.get(&node) else { return Ok(None) };
        if !self.losses.contains_key(&loss) {
            let mut way = Way { passed: self.cuts.len(), arrived: HashMap::new() };
            if value.track_op() {
                way.take(&self.cuts, &value.sum_all()?)?;
            }
            self.losses.insert(loss, way);
        }
        if let Some(way) = self.losses.get_mut(&loss) {
            while way.passed > target + 1 {
                way.passed -= 1;
                let before = &self.cuts[way.passed].before;
                if let Some(gradient) = way.arrived.get(&way.passed)
                    && before.track_op()
                {
                    let scalar = (before * gradient.detach())?.sum_all()?;
                    way.take(&self.cuts[..way.passed], &scalar)?;
                }
            }
        }
        Ok(Some(target))
    }
}

impl Way {
    /// Adds what comes back to the cuts from a single number.
    fn take(&mut self, cuts: &[Cut], scalar: &Tensor) -> Result<()> {
        let mut found = scalar.backward()?;
        for (index, cut) in cuts.iter().enumerate() {
            if let Some(gradient) = found.remove(&cut.leaf) {
                let sum = match self.arrived.remove(&index) {
                    None => gradient,
                    Some(other) => (other + gradient)?,
                };
                self.arrived.insert(index, sum.detach());
            }
        }
        Ok(())
    }
}
