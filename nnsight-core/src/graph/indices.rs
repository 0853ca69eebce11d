//! Indices that lie outside of their axis, refused where they are known before anything runs.

use candle_core::{DType, Device, Tensor};

use super::infer::{Environment, Inference};
use super::{Axis, Facts, Node, NodeId, Op, Step};
use crate::{Error, Result};

/// Longer lists are looked at when they are used: they are no literals.
const LONGEST: usize = 1 << 16;

impl<E: Environment> Inference<'_, E> {
    /// Whether the entries of `of` can be indices into an axis, as far as they are known; negative ones perhaps counted from the end.
    pub(super) fn indices(&self, of: NodeId, axis: &Axis, from_end: bool) -> Result<()> {
        self.no_padding(axis)?;
        let (Some(size), Some(tensor)) = (axis.size, self.entries_of(of).filter(|tensor| tensor.elem_count() <= LONGEST)) else { return Ok(()) };
        let indices = tensor.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
        let entries = i64::try_from(size).unwrap_or(i64::MAX);
        let first = if from_end { -entries } else { 0 };
        match indices.into_iter().find(|index| !(first..entries).contains(index)) {
            Some(index) => Err(Error::NoEntry { index, axis: axis.name.to_string(), size, from_end, source_line: self.graph.source(self.id) }),
            None => Ok(()),
        }
    }

    /// The refusal of a part of an axis.
    pub(super) fn outside(&self, part: &Step, axis: String, size: usize) -> Result<Facts> {
        Err(Error::OutsideAxis { part: part.to_string(), axis, size, source_line: self.graph.source(self.id) })
    }

    /// The tensor from outside whose entries a node has, in some order.
    fn entries_of(&self, mut id: NodeId) -> Option<&Tensor> {
        loop {
            let node = self.producer(id)?;
            match node.op {
                Op::Constant(constant) => return self.graph.constants.get(constant.index()).map(|constant| &constant.tensor),
                Op::Rename { .. } | Op::Permute { .. } | Op::Split { .. } | Op::Merge { .. } | Op::Log { .. } => id = *node.args.first()?,
                _ => return None,
            }
        }
    }

    /// The node that a value comes from, or `None` for a parameter of a loop.
    fn producer(&self, id: NodeId) -> Option<&Node> {
        match self.body {
            None => self.graph.nodes.get(id.index()),
            Some(body) => body.node(id),
        }
    }
}
