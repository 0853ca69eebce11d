//! Which operations can be computed on which kinds of numbers.

use candle_core::DType;

use super::infer::{Environment, Inference};
use super::{Axis, Facts, Node, NodeId, Op, Unary};
use crate::graph::{KindTag, kind_of};
use crate::{Error, Result};

/// The types in which a value can be kept.
const STORED: [DType; 7] = [DType::F32, DType::BF16, DType::F16, DType::F64, DType::U8, DType::U32, DType::I64];

impl<E: Environment> Inference<'_, E> {
    /// Refuses arguments that are kept in another type than that of their kind: they can be moved and cast, and nothing else.
    pub(super) fn check_stored(&self, node: &Node) -> Result<()> {
        let moves = matches!(
            node.op,
            Op::Slice(_)
                | Op::Permute { .. }
                | Op::Split { .. }
                | Op::Merge { .. }
                | Op::Rename { .. }
                | Op::Log { .. }
                | Op::Store { .. }
                | Op::Cast(_)
        );
        let stored = node.args.iter().find_map(|arg| self.costs[arg.index()].stored);
        match stored.filter(|_| !moves) {
            None => Ok(()),
            Some(dtype) => self.mismatch(format!("a value that is kept as `{}` cannot be computed with; use the value from before", dtype.as_str())),
        }
    }

    /// The type in which a node's value is kept, if it is another than that of its kind.
    pub(super) fn stored(&self, node: &Node, facts: &Facts) -> Result<Option<DType>> {
        let before = node.args.first().and_then(|arg| self.costs[arg.index()].stored);
        match &node.op {
            Op::Cast(_) => Ok(None),
            Op::Store { dtype: Some(name), .. } => match name.parse::<DType>() {
                Ok(dtype) if STORED.contains(&dtype) => Ok(Some(dtype).filter(|_| self.dtype(facts.kind) != dtype)),
                _ => {
                    let known = STORED.iter().map(|dtype| format!("`{}`", dtype.as_str())).collect::<Vec<_>>();
                    self.mismatch(format!("a value cannot be kept as `{name}`; it can as {}", known.join(", ")))
                }
            },
            _ => Ok(before),
        }
    }

    /// The type in which a kind is computed.
    pub(super) fn dtype(&self, kind: KindTag) -> DType {
        match kind {
            KindTag::Float => self.environment.dtype(),
            KindTag::Int => DType::I64,
            KindTag::Bool => DType::U8,
        }
    }

    /// The kind of an operation's result whose two arguments are of one kind; a number of the program is of whatever kind the other is.
    pub(super) fn common_kind(&self, a: NodeId, b: NodeId) -> Result<KindTag> {
        let (first, second) = (&self.known[a.index()], &self.known[b.index()]);
        match (self.number_of(a), self.number_of(b)) {
            (None, None) if first.kind != second.kind => self.mismatch(format!(
                "{first} is of kind {}, and {second} of kind {}; convert one of them with `.cast::<{}>()`",
                first.kind.name(),
                second.kind.name(),
                first.kind.name()
            )),
            (None, Some(number)) => self.fits_kind(number, first.kind).map(|()| first.kind),
            (Some(number), None) => self.fits_kind(number, second.kind).map(|()| second.kind),
            _ => Ok(first.kind),
        }
    }

    /// Refuses a number of the program that the kind does not have.
    pub(super) fn fits_kind(&self, number: f64, kind: KindTag) -> Result<()> {
        // 2^63, which `f64` has exactly.
        const END: f64 = 9_223_372_036_854_775_808.0;
        match kind {
            KindTag::Float => Ok(()),
            KindTag::Int if number.fract() == 0.0 && (-END..END).contains(&number) => Ok(()),
            KindTag::Int => self.mismatch(format!("{number} is not a whole number of 64 bits, and the value is of kind Int; use `.cast::<Float>()`")),
            KindTag::Bool if number == 0.0 || number == 1.0 => Ok(()),
            KindTag::Bool => self.mismatch(format!("{number} is neither 0 nor 1, and the value is of kind Bool; use `.cast::<Float>()`")),
        }
    }

    /// Refuses to write a value into one of another kind, where that would lose something.
    pub(super) fn goes_into(&self, value: NodeId, kind: KindTag) -> Result<()> {
        let found = &self.known[value.index()];
        match (self.number_of(value), kind, found.kind) {
            (Some(number), kind, _) => self.fits_kind(number, kind),
            (None, KindTag::Int, KindTag::Float) => self.mismatch(format!("{found} does not go into whole numbers; use `.cast::<Int>()`")),
            _ => Ok(()),
        }
    }

    /// Refuses a function that whole numbers do not have.
    pub(super) fn unary(&self, unary: Unary, facts: &Facts) -> Result<()> {
        let only_float = || self.mismatch(format!("{facts} holds whole numbers; use `.cast::<Float>()` first"));
        match (self.number(facts)?.kind, unary) {
            (KindTag::Int, Unary::Neg | Unary::Abs | Unary::Sqr | Unary::Relu) | (KindTag::Float | KindTag::Bool, _) => Ok(()),
            (KindTag::Int, Unary::Clamp(low, high)) => {
                self.fits_kind(low, KindTag::Int)?;
                self.fits_kind(high, KindTag::Int)
            }
            (
                KindTag::Int,
                Unary::Exp | Unary::Ln | Unary::Sqrt | Unary::Tanh | Unary::Sigmoid | Unary::Gelu | Unary::Silu | Unary::Recip | Unary::Powf(_),
            ) => only_float(),
        }
    }

    /// Refuses everything but floating-point numbers.
    pub(super) fn float<'f>(&self, facts: &'f Facts) -> Result<&'f Facts> {
        match facts.kind {
            KindTag::Float => Ok(facts),
            KindTag::Int | KindTag::Bool => self.mismatch(format!("{facts} is of kind {}; use `.cast::<Float>()` first", facts.kind.name())),
        }
    }

    /// Refuses an axis without entries.
    pub(super) fn not_empty<'f>(&self, axis: &'f Axis) -> Result<&'f Axis> {
        match axis.size {
            Some(0) => self.mismatch(format!("the axis {axis} has no entries")),
            _ => Ok(axis),
        }
    }

    /// Refuses a condition that is not one boolean.
    pub(super) fn condition(&self, id: NodeId) -> Result<()> {
        let facts = self.truth(&self.known[id.index()])?;
        match facts.axes.iter().all(|axis| axis.size.is_none_or(|size| size == 1)) {
            true => Ok(()),
            false => self.mismatch(format!("{facts} is not one boolean")),
        }
    }

    /// The number that a node is, if it is one of the program's.
    pub(super) fn number_of(&self, id: NodeId) -> Option<f64> {
        let node = match self.body {
            None => Some(self.graph.node(id)),
            Some(body) => body.node(id),
        };
        match node?.op {
            Op::Scalar(number) => Some(number),
            _ => None,
        }
    }

    /// The facts of a constant.
    pub(super) fn constant(&self, index: usize) -> Result<Facts> {
        let constant = &self.graph.constants[index];
        let (names, tensor) = (&constant.names, &constant.tensor);
        if names.len() != tensor.rank() {
            return self.mismatch(format!("{} names for {} axes", names.len(), tensor.rank()));
        }
        if !STORED.contains(&tensor.dtype()) && !matches!(tensor.dtype(), DType::I16 | DType::I32) {
            return self.mismatch(format!("a constant cannot be of type `{}`", tensor.dtype().as_str()));
        }
        let axes = names.iter().zip(tensor.dims()).map(|(name, &size)| Axis::new(name.clone(), Some(size))).collect();
        Ok(Facts { kind: kind_of(tensor.dtype()), axes })
    }

    pub(super) fn mismatch<T>(&self, problem: String) -> Result<T> {
        Err(Error::Mismatch { op: self.op.name(), problem, source_line: self.graph.source(self.id) })
    }
}
