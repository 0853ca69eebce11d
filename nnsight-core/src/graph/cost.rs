//! What a node costs: bytes and entries, found from sizes alone. Every sum saturates, so that a size that overflows is a size that is too large.

use candle_core::DType;

use super::{Facts, Op, Reduce};
use crate::graph::KindTag;

/// What an operation costs at least, in entries: calling it takes as long as computing about so many.
const LEAST: usize = 1024;

/// Multiplications of a matrix product that take as long as one entry of another operation.
const MULTIPLICATIONS: usize = 64;

/// Entries of an axis that a running sum is computed over at a time: that takes a matrix of so many rows and columns.
pub(crate) const CUMSUM_BLOCK: usize = 256;

/// What a node costs, and what its value takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// The entries of its value, at most.
    pub entries: usize,
    /// The bytes of its value, at most.
    pub bytes: usize,
    /// The entries of the largest tensor that is computed on the way.
    pub largest: usize,
    /// The bytes that are needed on the way, beside arguments and value.
    pub beside: usize,
    /// The entries that are computed, with [`LEAST`] for every operation. Of a loop whose end depends on values, those of one round.
    pub work: usize,
    /// The rounds of loops, counted likewise.
    pub rounds: usize,
    /// The type in which the value is kept, if it is another than that of its kind.
    pub stored: Option<DType>,
}

/// The entries of a value; an axis whose size is open has `open` at most.
pub(super) fn entries(facts: &Facts, open: usize) -> usize {
    facts.axes.iter().fold(1, |product: usize, axis| product.saturating_mul(axis.size.unwrap_or(open)))
}

/// The bytes of an entry of a kind, on a model that computes in `dtype`.
fn width(kind: KindTag, dtype: DType) -> usize {
    match kind {
        KindTag::Float => dtype.size_in_bytes(),
        KindTag::Int => size_of::<i64>(),
        KindTag::Bool => size_of::<u8>(),
    }
}

impl Cost {
    /// Of an operation with these arguments, which are known by facts and entries.
    pub(super) fn of(op: &Op, args: &[(&Facts, usize)], facts: &Facts, (open, dtype): (usize, DType)) -> Self {
        let given = args.iter().fold(0, |sum: usize, (_, entries)| sum.saturating_add(*entries));
        let first = args.first().map_or(0, |(_, entries)| *entries);
        let known = facts.axes.iter().all(|axis| axis.size.is_some());
        let own = entries(facts, open);
        // What only moves entries has as many as before, also if it is not known how they are laid out.
        let moves = matches!(op, Op::Permute { .. } | Op::Split { .. } | Op::Merge { .. } | Op::Rename { .. } | Op::Log { .. } | Op::Item { .. });
        let own = match op {
            _ if known => own,
            _ if moves => own.max(first),
            Op::Choose | Op::Where => args.iter().map(|(_, entries)| *entries).fold(own, usize::max),
            _ => own,
        };
        let size = |axis: usize| args.first().and_then(|(facts, _)| facts.axes.get(axis)).map_or(1, |axis| axis.size.unwrap_or(open));
        // In `f32`, which many operations compute in, or wider.
        let wide = 4.max(width(facts.kind, dtype));
        let bytes = |entries: usize| entries.saturating_mul(wide);
        let (on_the_way, beside, work) = match op {
            Op::Scalar(_) | Op::Rename { .. } | Op::Slice(_) | Op::Stop { .. } | Op::Output { .. } | Op::Item { .. } => (0, 0, 0),
            Op::Get { .. } => (0, bytes(own), own),
            Op::Constant(_) => (0, 0, own),
            Op::Set { .. } | Op::Skip { .. } => (0, bytes(own), own),
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Logic(_) | Op::Where | Op::Full(_) | Op::Cast(_) | Op::Choose => {
                (0, bytes(own), own.max(given))
            }
            Op::Reduce { reduce, .. } => match reduce {
                Reduce::Sum | Reduce::Max | Reduce::Min | Reduce::ArgMax | Reduce::ArgMin => (0, bytes(own), first),
                Reduce::Mean | Reduce::Var | Reduce::Norm => (first, bytes(first).saturating_mul(3), first.saturating_mul(2)),
            },
            Op::Softmax { .. } => (own, bytes(own).saturating_mul(3), own.saturating_mul(8)),
            Op::CumSum { axis } => {
                let square = size(*axis).min(CUMSUM_BLOCK).saturating_pow(2);
                (square, bytes(own.saturating_mul(3).saturating_add(square)), own.saturating_mul(8))
            }
            Op::MatMul => {
                let inner = args.first().and_then(|(facts, _)| facts.axes.last()).map_or(1, |axis| axis.size.unwrap_or(open));
                (0, bytes(given), own.saturating_mul(1 + inner / MULTIPLICATIONS).saturating_add(given))
            }
            Op::Call { .. } => {
                let inner = args.first().and_then(|(facts, _)| facts.axes.last()).map_or(1, |axis| axis.size.unwrap_or(open));
                (0, bytes(given.saturating_add(own)), own.saturating_mul(1 + inner / MULTIPLICATIONS).saturating_add(given))
            }
            Op::Permute { .. } | Op::Split { .. } | Op::Merge { .. } => (0, bytes(own), own),
            Op::Patch(_) | Op::Cat { .. } | Op::Stack { .. } => (0, bytes(own), own.max(given)),
            Op::Scatter { .. } => (0, bytes(own.saturating_add(given)), own.saturating_add(given)),
            Op::Pick { .. } | Op::Gather { .. } | Op::IndexSelect { .. } => (0, bytes(given.saturating_mul(2)), own.saturating_add(given)),
            Op::TopK { .. } => (first, bytes(first).saturating_mul(3), first.saturating_mul(4)),
            Op::OneHot { .. } => (own, bytes(own), own.saturating_mul(2)),
            Op::Randn { .. } => (own, bytes(own), own.saturating_mul(8)),
            Op::Grad | Op::SetGrad => (0, bytes(given), given),
            Op::Apply { .. } | Op::Custom { .. } => (0, bytes(own), own.max(given)),
            Op::Store { .. } => (0, own.saturating_mul(8), own),
            // A large value is shown in part.
            Op::Log { .. } => (0, bytes(own), first),
            // What its body costs comes to this.
            Op::Loop(_) => (0, 0, 0),
        };
        let stored_width = if matches!(op, Op::Store { .. }) { 8 } else { width(facts.kind, dtype) };
        Cost {
            entries: own,
            bytes: if matches!(op, Op::Scalar(_)) { 0 } else { own.saturating_mul(stored_width) },
            largest: own.max(on_the_way),
            beside,
            work: work.max(LEAST),
            rounds: 0,
            stored: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Axis;

    fn facts(sizes: &[usize]) -> Facts {
        Facts { kind: KindTag::Float, axes: sizes.iter().map(|&size| Axis::new("X", Some(size))).collect() }
    }

    fn cost(op: Op, args: &[&[usize]], own: &[usize]) -> Cost {
        let args = args.iter().map(|sizes| (facts(sizes), sizes.iter().product())).collect::<Vec<_>>();
        let args = args.iter().map(|(facts, entries)| (facts, *entries)).collect::<Vec<_>>();
        Cost::of(&op, &args, &facts(own), (1, DType::F32))
    }

    #[test]
    fn a_product_counts_its_multiplications() {
        let product = cost(Op::MatMul, &[&[100, 640], &[640, 1000]], &[100, 1000]);
        assert_eq!((product.entries, product.bytes), (100_000, 400_000));
        assert_eq!(product.work, 100_000 * 11 + 64_000 + 640_000);
        assert_eq!(product.beside, 4 * (64_000 + 640_000));
    }

    #[test]
    fn sizes_that_overflow_are_large() {
        let huge = cost(Op::OneHot { name: "X".into(), size: usize::MAX }, &[&[3]], &[3, usize::MAX]);
        assert_eq!([huge.entries, huge.bytes, huge.work], [usize::MAX; 3]);
    }

    #[test]
    fn the_smallest_operation_counts_as_much_as_calling_it() {
        assert_eq!(cost(Op::Scalar(1.0), &[], &[]).work, LEAST);
        assert_eq!(cost(Op::Scalar(1.0), &[], &[]).bytes, 0);
    }
}
