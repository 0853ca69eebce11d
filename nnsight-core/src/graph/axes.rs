//! What operations make of axes.

use super::infer::{Environment, Inference};
use super::{Axis, Facts, Reduce, Region};
use crate::graph::{AxisRole, KindTag};
use crate::{Error, Result};

impl<E: Environment> Inference<'_, E> {
    pub(super) fn axis<'f>(&self, facts: &'f Facts, axis: usize) -> Result<&'f Axis> {
        match facts.axes.get(axis) {
            Some(axis) => Ok(axis),
            None => self.mismatch(format!("{facts} has no axis number {axis}")),
        }
    }

    pub(super) fn number<'f>(&self, facts: &'f Facts) -> Result<&'f Facts> {
        match facts.kind {
            KindTag::Bool => self.mismatch(format!("arithmetic on a boolean tensor, {facts}; use `.cast::<Float>()`")),
            KindTag::Float | KindTag::Int => Ok(facts),
        }
    }

    pub(super) fn truth<'f>(&self, facts: &'f Facts) -> Result<&'f Facts> {
        match facts.kind {
            KindTag::Bool => Ok(facts),
            KindTag::Float | KindTag::Int => self.mismatch(format!("expected a boolean tensor, e.g. the result of `.gt(0.0)`; found {facts}")),
        }
    }

    pub(super) fn no_padding(&self, axis: &Axis) -> Result<()> {
        match axis.ragged {
            false => Ok(()),
            true => Err(Error::Ragged { op: self.op.name(), axis: axis.name.to_string(), source_line: self.graph.source(self.id) }),
        }
    }

    /// Whether `value` may be written into something of the facts `part`.
    pub(super) fn fits(&self, part: &Facts, value: &Facts) -> Result<()> {
        if (value.kind == KindTag::Bool) != (part.kind == KindTag::Bool) && !value.axes.is_empty() {
            return self.mismatch(format!("{value} does not go into {part}"));
        }
        let broadcast = self.broadcast(part, value)?;
        let same = broadcast.len() == part.axes.len() && broadcast.iter().zip(&part.axes).all(|(a, b)| a.size == b.size || b.size.is_none());
        match same {
            true => Ok(()),
            false => self.mismatch(format!("{value} does not go into {part}")),
        }
    }

    /// The axes of two values broadcast against each other, from the innermost outwards.
    pub(super) fn broadcast(&self, a: &Facts, b: &Facts) -> Result<Vec<Axis>> {
        let (longer, shorter) = if a.axes.len() >= b.axes.len() { (a, b) } else { (b, a) };
        let mut axes = longer.axes.clone();
        let offset = axes.len() - shorter.axes.len();
        for (axis, other) in axes[offset..].iter_mut().zip(&shorter.axes) {
            axis.ragged |= other.ragged;
            axis.shortest = axis.shortest.into_iter().chain(other.shortest).min();
            match (axis.size, other.size) {
                (Some(1), Some(2..)) if !spreads(axis) => return self.mismatch(one_entry(axis, other)),
                (Some(2..), Some(1)) if !spreads(other) => return self.mismatch(one_entry(other, axis)),
                (Some(1), _) if other.size != Some(1) => *axis = other.clone(),
                (Some(_), Some(1)) | (Some(_), None) => {}
                (None, size) => axis.size = if size == Some(1) { None } else { size },
                (Some(size), Some(found)) if size == found => {}
                (Some(size), Some(found)) => {
                    let then = same_positions(axis, other);
                    let sizes = format!("{size} entries of `{}`, {found} of `{}`{then}", axis.name, other.name);
                    return self.mismatch(format!("{a} and {b} do not broadcast: {sizes}"));
                }
            }
        }
        Ok(axes)
    }

    pub(super) fn reduce(&self, reduce: Reduce, axis: Option<usize>, keep: bool, facts: &Facts) -> Result<Facts> {
        let kind = match reduce {
            Reduce::ArgMax | Reduce::ArgMin => KindTag::Int,
            Reduce::Mean | Reduce::Var | Reduce::Norm => KindTag::Float,
            Reduce::Sum | Reduce::Max | Reduce::Min => facts.kind,
        };
        // A sum of nothing is 0; nothing else is there.
        let needs_entries = !matches!(reduce, Reduce::Sum | Reduce::Norm);
        let check = |axis: &Axis| {
            self.no_padding(axis)?;
            if needs_entries { self.not_empty(axis).map(drop) } else { Ok(()) }
        };
        let Some(axis) = axis else {
            facts.axes.iter().try_for_each(check)?;
            return Ok(Facts::scalar(kind));
        };
        check(self.axis(facts, axis)?)?;
        let mut axes = facts.axes.clone();
        match keep {
            // As the type of the value says: an axis that broadcasts.
            true => axes[axis] = Axis::new("One", Some(1)),
            false => drop(axes.remove(axis)),
        }
        Ok(Facts { kind, axes })
    }

    pub(super) fn matmul(&self, a: &Facts, b: &Facts) -> Result<Facts> {
        self.float(a)?;
        self.float(b)?;
        let ([.., inner], [left_batch @ .., _, _]) = (&a.axes[..], &a.axes[..]) else {
            return self.mismatch(format!("{a} is no matrix"));
        };
        let [right_batch @ .., shared, columns] = &b.axes[..] else {
            return self.mismatch(format!("{b} is no matrix"));
        };
        let differ = |x: &Axis, y: &Axis| x.size.zip(y.size).is_some_and(|(x, y)| x != y);
        let batches =
            right_batch.is_empty() || right_batch.len() == left_batch.len() && !left_batch.iter().zip(right_batch).any(|(x, y)| differ(x, y));
        if differ(inner, shared) || !batches {
            return self.mismatch(format!("{a} cannot be multiplied by {b}"));
        }
        self.no_padding(self.not_empty(inner)?)?;
        let mut facts = Facts { kind: KindTag::Float, axes: a.axes.clone() };
        if let Some(last) = facts.axes.last_mut() {
            *last = columns.clone();
        }
        Ok(facts)
    }

    pub(super) fn permute(&self, facts: &Facts, order: &[usize], names: &[String]) -> Result<Facts> {
        let mut seen = vec![false; facts.axes.len()];
        let valid = order.len() == facts.axes.len()
            && names.len() == order.len()
            && order.iter().all(|&axis| axis < seen.len() && !std::mem::replace(&mut seen[axis], true));
        if !valid {
            return self.mismatch(format!("{order:?} is not a permutation of the axes of {facts}"));
        }
        let axes = order.iter().zip(names).map(|(&axis, name)| Axis {
            role: AxisRole::of_name(name),
            name: name.clone().into(),
            ..facts.axes[axis].clone()
        });
        Ok(Facts { kind: facts.kind, axes: axes.collect() })
    }

    pub(super) fn split(&self, facts: &Facts, axis: usize, into: &[(String, Option<usize>); 2]) -> Result<Facts> {
        self.no_padding(self.axis(facts, axis)?)?;
        let size = facts.axes[axis].size;
        if facts.axes.len() == 5 {
            return self.mismatch(format!("{facts} has five axes already"));
        }
        let parts = match (size, into[0].1, into[1].1) {
            (Some(size), Some(x), None) if x > 0 && size % x == 0 => [Some(x), Some(size / x)],
            (Some(size), None, Some(y)) if y > 0 && size % y == 0 => [Some(size / y), Some(y)],
            (Some(size), Some(x), Some(y)) if x.checked_mul(y) == Some(size) => [Some(x), Some(y)],
            (None, x, y) if x.is_some() || y.is_some() => [x, y],
            _ => {
                let names = format!("({}, {})", Axis::new(into[0].0.clone(), into[0].1), Axis::new(into[1].0.clone(), into[1].1));
                return self.mismatch(format!("the axis {} cannot be split into {names}", facts.axes[axis]));
            }
        };
        let mut axes = facts.axes.clone();
        axes.splice(axis..=axis, into.iter().zip(parts).map(|((name, _), size)| Axis::new(name.clone(), size)));
        Ok(Facts { kind: facts.kind, axes })
    }

    pub(super) fn part(&self, facts: &Facts, region: &Region) -> Result<Facts> {
        let mut axes = facts.axes.clone();
        let mut gone = vec![false; axes.len()];
        for step in &region.0 {
            let index = step.axis as usize;
            self.axis(facts, index)?;
            let axis = &mut axes[index];
            if axis.ragged && step.counts_from_start() {
                self.no_padding(axis)?;
            }
            if let Some(size) = axis.size {
                match step.resolve(size) {
                    Some(span) => axis.size = Some(span.len),
                    None => return self.outside(step, axis.name.to_string(), size),
                }
            } else if !step.single {
                axis.size = None;
            }
            if let Some(shortest) = axis.shortest {
                match step.resolve(shortest) {
                    Some(span) => axis.shortest = Some(span.len),
                    None => return self.outside(step, format!("{} of the shortest prompt", axis.name), shortest),
                }
            }
            if step.single {
                (axis.ragged, axis.shortest) = (false, None);
                gone[index] = true;
            }
        }
        let kept = axes.into_iter().zip(gone).filter(|(_, gone)| !gone).map(|(axis, _)| axis);
        Ok(Facts { kind: facts.kind, axes: kept.collect() })
    }
}

/// Whether an axis of one entry broadcasts to as many as are asked for: that of a single prompt, and one that says so. A prompt of one token does not
/// stand for longer ones.
fn spreads(axis: &Axis) -> bool {
    matches!(axis.role, AxisRole::One | AxisRole::Row)
}

/// What to write if two prompts differ in length. Any other axis differs if a tensor is of another model, and nothing mends that.
fn same_positions(axis: &Axis, other: &Axis) -> String {
    match axis.role.is_of_positions() && axis.name == other.name {
        true => format!("; take the same positions of both, with `.at({0}, …)` or `.slice({0}, …)`", axis.name),
        false => String::new(),
    }
}

fn one_entry(axis: &Axis, other: &Axis) -> String {
    format!("`{}` has one entry, and is not spread over the {}; `.at({0}, 0).expand({0})` is", axis.name, other)
}
