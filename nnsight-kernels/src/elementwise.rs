//! Several element-wise operations in one pass over memory.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::cpu::{entries, entries_of};
use crate::dispatch::is_fused;
use crate::{Binary, Unary};

/// Element-wise operations that are still to be computed: an expression whose leaves are tensors.
#[derive(Clone, Debug)]
pub struct FusedElementwise {
    shape: Vec<usize>,
    /// Each in the shape of the result or in that of its last axes.
    leaves: Vec<Tensor>,
    /// For a machine with a stack.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Leaf(usize),
    Number(f32),
    Unary(Unary),
    Binary(Binary),
}

/// What an operation is applied to.
pub enum Operand<'a> {
    /// Its entries.
    Tensor(&'a Tensor),
    /// The same for every entry.
    Number(f64),
    /// What is still to be computed.
    Fused(&'a FusedElementwise),
}

/// Steps that are fused at most: what they are computed from is held until they are.
const LONGEST: usize = 32;

/// Entries that are computed at a time: they stay in the nearest cache.
const BLOCK: usize = 1024;

/// Blocks below which a second thread costs more than it brings.
const BLOCKS: usize = 32;

impl FusedElementwise {
    /// An operation on an operand, if it can be fused: its tensors are contiguous, and taken by fused kernels.
    ///
    /// # Shapes
    /// The result has that of `x`.
    pub fn unary(op: Unary, x: Operand<'_>) -> Option<Self> {
        let mut fused = FusedElementwise::of(&x, x.shape()?)?;
        fused.steps.push(Step::Unary(op));
        Some(fused).filter(|fused| !matches!(op, Unary::Gelu | Unary::Silu) && fused.steps.len() <= LONGEST)
    }

    /// As [`FusedElementwise::unary`].
    ///
    /// # Shapes
    /// The result has the shape of the operand with more axes; the other has that or the shape of its last axes.
    pub fn binary(op: Binary, a: Operand<'_>, b: Operand<'_>) -> Option<Self> {
        let shape = [a.shape(), b.shape()].into_iter().flatten().max_by_key(|shape| shape.len())?;
        let (mut fused, other) = (FusedElementwise::of(&a, shape)?, FusedElementwise::of(&b, shape)?);
        let moved = fused.leaves.len();
        fused.leaves.extend(other.leaves);
        fused.steps.extend(other.steps.into_iter().map(|step| match step {
            Step::Leaf(leaf) => Step::Leaf(leaf + moved),
            step => step,
        }));
        fused.steps.push(Step::Binary(op));
        Some(fused).filter(|fused| fused.steps.len() <= LONGEST)
    }

    fn of(operand: &Operand<'_>, shape: &[usize]) -> Option<Self> {
        let (leaves, steps) = match operand {
            Operand::Number(number) => (Vec::new(), vec![Step::Number(*number as f32)]),
            Operand::Fused(fused) if fused.shape == shape => (fused.leaves.clone(), fused.steps.clone()),
            Operand::Fused(_) => return None,
            Operand::Tensor(tensor) => {
                let fits = shape.ends_with(tensor.dims()) && tensor.elem_count() > 0;
                (is_fused(&[tensor]) && tensor.is_contiguous() && fits).then(|| (vec![Tensor::clone(tensor)], vec![Step::Leaf(0)]))?
            }
        };
        Some(FusedElementwise { shape: shape.to_vec(), leaves, steps })
    }

    /// Computes it.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn compute(&self) -> Result<Tensor> {
        match self.leaves.first() {
            Some(first) => first.apply_op1_no_bwd(self),
            None => bail!("fused element-wise operations on no tensor"),
        }
    }

    /// Computes the entries of the result from one on.
    fn run(&self, leaves: &[&[f32]], first: usize, result: &mut [f32]) {
        let mut stack: Vec<Vec<f32>> = Vec::new();
        let mut spare: Vec<Vec<f32>> = Vec::new();
        for (index, result) in result.chunks_mut(BLOCK).enumerate() {
            let start = first + index * BLOCK;
            for step in &self.steps {
                match *step {
                    Step::Leaf(leaf) => {
                        let mut block = spare.pop().unwrap_or_default();
                        block.clear();
                        let leaf = leaves[leaf];
                        // A leaf of fewer axes is read again and again.
                        let mut at = start % leaf.len();
                        while block.len() < result.len() {
                            let count = (leaf.len() - at).min(result.len() - block.len());
                            block.extend_from_slice(&leaf[at..at + count]);
                            at = 0;
                        }
                        stack.push(block);
                    }
                    Step::Number(number) => {
                        let mut block = spare.pop().unwrap_or_default();
                        block.clear();
                        block.resize(result.len(), number);
                        stack.push(block);
                    }
                    Step::Unary(op) => {
                        if let Some(block) = stack.last_mut() {
                            apply(op, block);
                        }
                    }
                    Step::Binary(op) => {
                        if let (Some(b), Some(a)) = (stack.pop(), stack.last_mut()) {
                            combine(op, a, &b);
                            spare.push(b);
                        }
                    }
                }
            }
            if let Some(block) = stack.pop() {
                result.copy_from_slice(&block);
                spare.push(block);
            }
        }
    }
}

impl CustomOp1 for FusedElementwise {
    fn name(&self) -> &'static str {
        "fused_elementwise"
    }

    /// The storage is that of the first leaf; the others are read from the expression.
    fn cpu_fwd(&self, first: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let others = self.leaves[1..].iter().map(Tensor::storage_and_layout).collect::<Vec<_>>();
        let others = others.iter().map(|(storage, layout)| entries(storage, layout));
        let leaves = std::iter::once(entries_of(first, layout)).chain(others).collect::<Result<Vec<_>>>()?;
        let mut result = vec![0f32; self.shape.iter().product()];
        let part = BLOCKS / 4 * BLOCK;
        let run = |(index, part_of_result): (usize, &mut [f32])| self.run(&leaves, index * part, part_of_result);
        match result.len() <= BLOCKS * BLOCK {
            true => result.chunks_mut(part).enumerate().for_each(run),
            false => result.par_chunks_mut(part).enumerate().for_each(run),
        }
        Ok((CpuStorage::F32(result), Shape::from(self.shape.as_slice())))
    }
}

impl Operand<'_> {
    fn shape(&self) -> Option<&[usize]> {
        match self {
            Operand::Tensor(tensor) => Some(tensor.dims()),
            Operand::Number(_) => None,
            Operand::Fused(fused) => Some(&fused.shape),
        }
    }
}

/// As candle computes it.
fn apply(op: Unary, x: &mut [f32]) {
    fn each(x: &mut [f32], op: impl Fn(f32) -> f32) {
        x.iter_mut().for_each(|x| *x = op(*x));
    }
    match op {
        Unary::Neg => each(x, |x| -x),
        Unary::Exp => each(x, f32::exp),
        Unary::Ln => each(x, f32::ln),
        Unary::Sqrt => each(x, f32::sqrt),
        Unary::Sqr => each(x, |x| x * x),
        Unary::Abs => each(x, f32::abs),
        Unary::Tanh => each(x, f32::tanh),
        Unary::Sigmoid => each(x, |x| 1.0 / ((-x).exp() + 1.0)),
        Unary::Relu => each(x, |x| x.max(0.0)),
        Unary::Recip => each(x, f32::recip),
        Unary::Powf(exponent) => each(x, |x| x.powf(exponent as f32)),
        Unary::Clamp(low, high) => each(x, |x| at_most(at_least(x, low as f32), high as f32)),
        // They are not fused.
        Unary::Gelu | Unary::Silu => {}
    }
}

fn combine(op: Binary, a: &mut [f32], b: &[f32]) {
    fn each(a: &mut [f32], b: &[f32], op: impl Fn(f32, f32) -> f32) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = op(*a, *b));
    }
    match op {
        Binary::Add => each(a, b, |a, b| a + b),
        Binary::Sub => each(a, b, |a, b| a - b),
        Binary::Mul => each(a, b, |a, b| a * b),
        Binary::Div => each(a, b, |a, b| a / b),
        Binary::Maximum => each(a, b, at_least),
        Binary::Minimum => each(a, b, at_most),
    }
}

fn at_least(a: f32, b: f32) -> f32 {
    if a < b { b } else { a }
}

fn at_most(a: f32, b: f32) -> f32 {
    if a > b { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn fused_operations_return_what_they_return_one_by_one() {
        for shape in [&[3, 5, 7][..], &[1, 40, 1025], &[2, 31, 576]] {
            let (x, y, z) = (random(shape), random(shape), random(&shape[2..]));
            let sum = FusedElementwise::binary(Binary::Sub, Operand::Tensor(&x), Operand::Tensor(&y)).unwrap();
            let exp = FusedElementwise::unary(Unary::Exp, Operand::Fused(&sum)).unwrap();
            let half = FusedElementwise::binary(Binary::Mul, Operand::Number(0.5), Operand::Tensor(&y)).unwrap();
            let scaled = FusedElementwise::binary(Binary::Mul, Operand::Fused(&exp), Operand::Tensor(&z)).unwrap();
            let found = FusedElementwise::binary(Binary::Maximum, Operand::Fused(&scaled), Operand::Fused(&half)).unwrap().compute().unwrap();
            let expected = (&x - &y).unwrap().exp().unwrap().broadcast_mul(&z).unwrap().maximum(&(&y * 0.5).unwrap()).unwrap();
            assert_eq!(found.dims(), expected.dims());
            let difference = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference == 0.0, "{difference}");
        }
    }

    #[test]
    fn each_operation_is_candles() {
        let x = random(&[4, 9]);
        let found = |op| FusedElementwise::unary(op, Operand::Tensor(&x)).unwrap().compute().unwrap();
        let expected = [
            (Unary::Neg, x.neg()),
            (Unary::Ln, x.log()),
            (Unary::Sqrt, x.sqrt()),
            (Unary::Sqr, x.sqr()),
            (Unary::Abs, x.abs()),
            (Unary::Tanh, x.tanh()),
            (Unary::Relu, x.relu()),
            (Unary::Recip, x.recip()),
            (Unary::Powf(3.0), x.powf(3.0)),
            (Unary::Clamp(-0.5, 0.5), x.clamp(-0.5f32, 0.5f32)),
        ];
        for (op, expected) in expected {
            let (found, expected) = (found(op).to_vec2::<f32>().unwrap().concat(), expected.unwrap().to_vec2::<f32>().unwrap().concat());
            let same = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
            assert!(found.iter().zip(&expected).all(same), "{op:?}: {found:?} {expected:?}");
        }
        assert!(FusedElementwise::unary(Unary::Gelu, Operand::Tensor(&x)).is_none());
    }

    #[test]
    fn what_does_not_fit_is_not_fused() {
        let (x, y) = (random(&[4, 9]), random(&[4, 1]));
        assert!(FusedElementwise::binary(Binary::Add, Operand::Tensor(&x), Operand::Tensor(&y)).is_none());
        assert!(FusedElementwise::binary(Binary::Add, Operand::Tensor(&x.t().unwrap()), Operand::Number(1.0)).is_none());
        assert!(FusedElementwise::binary(Binary::Add, Operand::Number(1.0), Operand::Number(1.0)).is_none());
        let long = (0..40).try_fold(FusedElementwise::unary(Unary::Neg, Operand::Tensor(&x)).unwrap(), |fused, _| {
            FusedElementwise::unary(Unary::Neg, Operand::Fused(&fused))
        });
        assert!(long.is_none());
    }
}
