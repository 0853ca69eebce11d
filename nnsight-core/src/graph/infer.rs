//! Kinds, ranks and sizes of every node, found without computing anything.

use super::{At, Axis, Body, Facts, Graph, InvokeId, Limits, Node, NodeId, Op, Reduce, Region};
use crate::types::KindTag;
use crate::{Error, Result};

/// What inference asks of a model.
pub trait Environment {
    /// What a site holds at one visit, or `None` where the model has no such site.
    fn site(&self, at: At, path: &str) -> Option<Facts>;
    /// The number of prompts of an invoke.
    fn rows(&self, invoke: InvokeId) -> Option<usize>;
    /// The axes that a module takes and gives innermost, or `None` where it cannot be applied by hand.
    fn module(&self, path: &str) -> Option<(Axis, Axis)>;
    /// The path that comes closest to a wrong one.
    fn suggest(&self, path: &str) -> Option<String>;
}

/// Gives the facts of every node.
///
/// # Errors
/// [`Error::NoSite`], [`Error::NoModule`], [`Error::Mismatch`] or [`Error::Ragged`], with the line in the user's program;
/// [`Error::TooLarge`].
pub fn infer(graph: &Graph, environment: &impl Environment) -> Result<Vec<Facts>> {
    let mut facts: Vec<Facts> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.iter() {
        let found = Inference { graph, environment, id, body: None, known: &facts }.node(node)?;
        check_size(&found)?;
        facts.push(found);
    }
    Ok(facts)
}

/// Refuses a value that no machine could hold, before anything is allocated for it.
fn check_size(facts: &Facts) -> Result<()> {
    let limit = Limits::default().value_entries;
    let entries = facts.axes.iter().try_fold(1usize, |product, axis| product.checked_mul(axis.size.unwrap_or(1)));
    match entries {
        Some(entries) if entries <= limit => Ok(()),
        entries => Err(Error::TooLarge { what: "entries in one value", found: entries.unwrap_or(usize::MAX), limit }),
    }
}

struct Inference<'a, E> {
    graph: &'a Graph,
    environment: &'a E,
    id: NodeId,
    /// The loop whose nodes these are, where they stand in one.
    body: Option<&'a Body>,
    known: &'a [Facts],
}

impl<E: Environment> Inference<'_, E> {
    fn arg(&self, node: &Node, index: usize) -> &Facts {
        &self.known[node.args[index].index()]
    }

    fn mismatch<T>(&self, problem: String) -> Result<T> {
        let op = self.graph.node(self.id).op.name();
        Err(Error::Mismatch { op, problem, source_line: self.graph.source(self.id) })
    }

    fn node(&self, node: &Node) -> Result<Facts> {
        match &node.op {
            Op::Get { at, site } => self.site(*at, self.graph.site(*site)),
            Op::Set { at, site, region, .. } => self.set(*at, self.graph.site(*site), region, self.arg(node, 0)),
            Op::Skip { at, site, .. } => self.set(*at, self.graph.site(*site), &Region::default(), self.arg(node, 0)),
            Op::Stop { at, site } => self.site(*at, self.graph.site(*site)),
            Op::Loop(body) => self.repeat(node, body),
            Op::Item { index } => {
                let of = match self.body {
                    None => Some(self.graph.node(node.args[0])),
                    Some(body) => body.node(node.args[0]),
                };
                match of.and_then(|of| of.args.get(*index)) {
                    Some(&carried) => Ok(self.known[carried.index()].clone()),
                    None => self.mismatch("there is no such value of a loop".into()),
                }
            }
            Op::Apply { axes, kind, .. } => self.apply(self.arg(node, 0), axes, *kind),
            Op::Custom { operation, parameters, names } => self.custom(node, operation, parameters, names),
            Op::Store { dtype, .. } => match dtype.as_deref().map(str::parse::<candle_core::DType>) {
                Some(Err(_)) => self.mismatch(format!("`{}` is no type of numbers", dtype.as_deref().unwrap_or_default())),
                _ => Ok(self.arg(node, 0).clone()),
            },
            Op::Tokens { invoke } => {
                let axes = vec![Axis::new("Batch", self.environment.rows(*invoke)), Axis::new("Seq", None)];
                Ok(Facts { kind: KindTag::Int, axes })
            }
            Op::Grad => self.gradient(node),
            Op::SetGrad => {
                let of = self.gradient(node)?;
                self.fits(&of, self.arg(node, 2))?;
                Ok(of)
            }
            Op::Constant(constant) => {
                let constant = &self.graph.constants[constant.index()];
                if constant.names.len() != constant.tensor.rank() {
                    return self.mismatch(format!("{} names for {} axes", constant.names.len(), constant.tensor.rank()));
                }
                let axes = constant.names.iter().zip(constant.tensor.dims());
                let axes = axes.map(|(name, &size)| Axis::new(name.clone(), Some(size))).collect();
                Ok(Facts { kind: crate::types::kind_of(constant.tensor.dtype()), axes })
            }
            Op::Scalar(_) => Ok(Facts::scalar(KindTag::Float)),
            Op::Unary(_) => Ok(self.number(self.arg(node, 0))?.clone()),
            Op::Binary(_) => {
                let (a, b) = (self.number(self.arg(node, 0))?, self.number(self.arg(node, 1))?);
                let kind = if node.args.iter().any(|arg| self.known[arg.index()].kind == KindTag::Float && !self.is_scalar(*arg)) {
                    KindTag::Float
                } else if self.is_scalar(node.args[0]) {
                    b.kind
                } else {
                    a.kind
                };
                Ok(Facts { kind, axes: self.broadcast(a, b)? })
            }
            Op::Compare(_) => Ok(Facts { kind: KindTag::Bool, axes: self.broadcast(self.arg(node, 0), self.arg(node, 1))? }),
            Op::Logic(_) => {
                let first = self.truth(self.arg(node, 0))?;
                match node.args.get(1) {
                    None => Ok(first.clone()),
                    Some(second) => Ok(Facts { kind: KindTag::Bool, axes: self.broadcast(first, self.truth(&self.known[second.index()])?)? }),
                }
            }
            Op::Reduce { reduce, axis, keep } => self.reduce(*reduce, *axis, *keep, self.number(self.arg(node, 0))?),
            Op::Softmax { axis, .. } | Op::CumSum { axis } => {
                let facts = self.number(self.arg(node, 0))?;
                self.no_padding(self.axis(facts, *axis)?)?;
                Ok(facts.clone())
            }
            Op::MatMul => self.matmul(self.arg(node, 0), self.arg(node, 1)),
            Op::Permute { order, names } => self.permute(self.arg(node, 0), order, names),
            Op::Split { axis, into } => self.split(self.arg(node, 0), *axis, into),
            Op::Merge { axis, name } => {
                let mut facts = self.arg(node, 0).clone();
                let (left, right) = (self.axis(&facts, *axis)?.clone(), self.axis(&facts, *axis + 1)?.clone());
                facts.axes[*axis] = Axis::new(name.clone(), left.size.zip(right.size).map(|(a, b)| a * b));
                facts.axes.remove(*axis + 1);
                Ok(facts)
            }
            Op::Rename { axis, name } => {
                let mut facts = self.arg(node, 0).clone();
                self.axis(&facts, *axis)?;
                facts.axes[*axis].name = name.clone().into();
                Ok(facts)
            }
            Op::Slice(region) => self.part(self.arg(node, 0), region),
            Op::Patch(region) => {
                let base = self.arg(node, 0);
                let part = self.part(base, region)?;
                self.fits(&part, self.arg(node, 1))?;
                Ok(base.clone())
            }
            Op::Pick { axis } => {
                let mut facts = self.arg(node, 0).clone();
                self.axis(&facts, *axis)?;
                facts.axes.remove(*axis);
                let index = self.arg(node, 1);
                if index.kind != KindTag::Int || index.axes.len() != facts.axes.len() {
                    return self.mismatch(format!("{index} does not give one index for each entry of {facts}"));
                }
                Ok(facts)
            }
            Op::Gather { axis } => {
                let (facts, index) = (self.arg(node, 0), self.arg(node, 1));
                self.axis(facts, *axis)?;
                if index.kind != KindTag::Int || index.axes.len() != facts.axes.len() {
                    return self.mismatch(format!("{index} does not hold indices for {facts}"));
                }
                Ok(Facts { kind: facts.kind, axes: index.axes.clone() })
            }
            Op::IndexSelect { axis } => {
                let (mut facts, index) = (self.arg(node, 0).clone(), self.arg(node, 1));
                self.no_padding(self.axis(&facts, *axis)?)?;
                if index.kind != KindTag::Int || index.axes.len() != 1 {
                    return self.mismatch(format!("{index} is not a list of indices"));
                }
                facts.axes[*axis].size = index.axes[0].size;
                Ok(facts)
            }
            Op::Scatter { axis } => {
                let (base, index) = (self.arg(node, 0).clone(), self.arg(node, 1));
                self.no_padding(self.axis(&base, *axis)?)?;
                if index.kind != KindTag::Int || index.axes.len() != 1 {
                    return self.mismatch(format!("{index} is not a list of indices"));
                }
                let mut part = base.clone();
                part.axes[*axis].size = index.axes[0].size;
                self.fits(&part, self.arg(node, 2))?;
                Ok(base)
            }
            Op::Cat { axis } => {
                let mut facts = self.arg(node, 0).clone();
                self.axis(&facts, *axis)?;
                for &other in &node.args[1..] {
                    let other = &self.known[other.index()];
                    if other.axes.len() != facts.axes.len() || other.kind != facts.kind {
                        return self.mismatch(format!("{other} does not continue {facts}"));
                    }
                    let sum = facts.axes[*axis].size.zip(other.axes[*axis].size).map(|(a, b)| a + b);
                    facts.axes[*axis].size = sum;
                }
                Ok(facts)
            }
            Op::Stack { name } => {
                let first = self.arg(node, 0).clone();
                if first.axes.len() == 5 {
                    return self.mismatch(format!("{first} has five axes already"));
                }
                for &other in &node.args[1..] {
                    let other = &self.known[other.index()];
                    if other.kind != first.kind || other.axes.len() != first.axes.len() {
                        return self.mismatch(format!("{other} does not stand beside {first}"));
                    }
                    self.fits(&first, other)?;
                }
                let mut axes = vec![Axis::new(name.clone(), Some(node.args.len()))];
                axes.extend(first.axes);
                Ok(Facts { kind: first.kind, axes })
            }
            Op::Where => {
                let condition = self.truth(self.arg(node, 0))?;
                let (a, b) = (self.arg(node, 1), self.arg(node, 2));
                let axes = self.broadcast(&Facts { kind: a.kind, axes: self.broadcast(a, b)? }, condition)?;
                let kind = if self.is_scalar(node.args[1]) { b.kind } else { a.kind };
                Ok(Facts { kind, axes })
            }
            Op::Choose => {
                self.truth(self.arg(node, 0))?;
                let (a, b) = (self.arg(node, 1), self.arg(node, 2));
                if a.axes.len() != b.axes.len() {
                    return self.mismatch(format!("one branch gives {a}, the other {b}"));
                }
                Ok(a.clone())
            }
            Op::TopK { k, indices } => {
                let mut facts = self.number(self.arg(node, 0))?.clone();
                let Some(last) = facts.axes.last_mut() else { return self.mismatch("a single number has no largest entries".into()) };
                if *k == 0 || last.size.is_some_and(|size| size < *k) {
                    let last = last.clone();
                    return self.mismatch(format!("the {k} largest of the axis {last}"));
                }
                *last = Axis::new("Ranked", Some(*k));
                if *indices {
                    facts.kind = KindTag::Int;
                }
                Ok(facts)
            }
            Op::OneHot { name, size } => {
                let mut facts = self.arg(node, 0).clone();
                if facts.kind != KindTag::Int || facts.axes.len() == 5 || *size == 0 {
                    return self.mismatch(format!("{facts} cannot be written as one-hot vectors of {size} entries"));
                }
                facts.axes.push(Axis::new(name.clone(), Some(*size)));
                facts.kind = KindTag::Float;
                Ok(facts)
            }
            Op::Full(_) => Ok(self.arg(node, 0).clone()),
            Op::Randn { .. } => Ok(Facts { kind: KindTag::Float, axes: self.arg(node, 0).axes.clone() }),
            Op::Cast(kind) => Ok(Facts { kind: *kind, axes: self.arg(node, 0).axes.clone() }),
            Op::Call { module } => {
                let mut facts = self.number(self.arg(node, 0))?.clone();
                let Some((input, output)) = self.environment.module(module) else {
                    let suggestion = crate::error::did_you_mean(self.environment.suggest(module));
                    return Err(Error::NoModule { path: module.clone(), suggestion, source_line: self.graph.source(self.id) });
                };
                match facts.axes.last_mut() {
                    Some(last) if last.size.is_none() || input.size.is_none() || last.size == input.size => *last = output,
                    _ => return self.mismatch(format!("`{module}` takes values that end with {input}, not {facts}")),
                }
                Ok(facts)
            }
            Op::Log { .. } => Ok(self.arg(node, 0).clone()),
        }
    }

    fn is_scalar(&self, id: NodeId) -> bool {
        let node = match self.body {
            None => Some(self.graph.node(id)),
            Some(body) => body.node(id),
        };
        node.is_some_and(|node| matches!(node.op, Op::Scalar(_)))
    }

    /// Goes through the body of a loop once: what it carries must come out as it went in.
    fn repeat(&self, node: &Node, body: &Body) -> Result<Facts> {
        let mut known = node.args.iter().map(|arg| self.known[arg.index()].clone()).collect::<Vec<_>>();
        if let Some(axis) = body.over {
            let rows = &mut known[body.carried];
            self.no_padding(self.axis(rows, axis)?)?;
            rows.axes.remove(axis);
        }
        for inner in &body.nodes {
            let found = Inference { graph: self.graph, environment: self.environment, id: self.id, body: Some(body), known: &known }.node(inner)?;
            check_size(&found)?;
            known.push(found);
        }
        for (index, given) in body.gives.iter().enumerate() {
            let (before, after) = (&known[index], &known[given.index()]);
            let alike = before.kind == after.kind && before.axes.len() == after.axes.len();
            if !alike || before.axes.iter().zip(&after.axes).any(|(a, b)| a.size.zip(b.size).is_some_and(|(a, b)| a != b)) {
                return self.mismatch(format!("a round makes {after} of {before}; what is carried on must keep its shape"));
            }
        }
        if let Some(condition) = body.condition {
            self.truth(&known[condition.index()])?;
        }
        Ok(known[0].clone())
    }

    fn apply(&self, first: &Facts, axes: &[(String, Option<usize>)], kind: KindTag) -> Result<Facts> {
        if axes.len() > 5 {
            return self.mismatch("a value has at most five axes".into());
        }
        let known = |name: &str| first.axes.iter().find(|axis| axis.name == name).and_then(|axis| axis.size);
        let axes = axes.iter().map(|(name, size)| Axis::new(name.clone(), size.or_else(|| known(name)))).collect();
        Ok(Facts { kind, axes })
    }

    fn custom(&self, node: &Node, name: &str, parameters: &[f64], names: &[String]) -> Result<Facts> {
        let Some(operation) = super::operation(name) else {
            let suggestion = crate::error::did_you_mean(super::suggest_operation(name));
            return Err(Error::NoOperation { name: name.to_string(), suggestion, source_line: self.graph.source(self.id) });
        };
        let args = node.args.iter().map(|arg| self.known[arg.index()].clone()).collect::<Vec<_>>();
        let facts = operation.facts(&args, parameters).or_else(|problem| self.mismatch(problem))?;
        match facts.axes.iter().map(|axis| axis.name.as_ref()).eq(names.iter().map(String::as_str)) {
            true => Ok(facts),
            false => self.mismatch(format!("it gives {facts}, and is declared to give ({})", names.join(", "))),
        }
    }

    /// The facts of a gradient: those of what it is taken with respect to.
    fn gradient(&self, node: &Node) -> Result<Facts> {
        let (of, loss) = (self.arg(node, 0), self.arg(node, 1));
        let single = loss.axes.iter().all(|axis| axis.name == "Batch");
        match single && loss.kind == KindTag::Float && of.kind == KindTag::Float {
            true => Ok(of.clone()),
            false => self.mismatch(format!("{loss} has no gradient with respect to {of}: it takes one number, or one for each prompt")),
        }
    }

    fn site(&self, at: At, path: &str) -> Result<Facts> {
        self.environment.site(at, path).ok_or_else(|| Error::NoSite {
            path: path.to_string(),
            suggestion: crate::error::did_you_mean(self.environment.suggest(path)),
            source_line: self.graph.source(self.id),
        })
    }

    fn set(&self, at: At, path: &str, region: &Region, value: &Facts) -> Result<Facts> {
        let whole = self.site(at, path)?;
        let part = self.part(&whole, region)?;
        self.fits(&part, value)?;
        Ok(whole)
    }

    fn axis<'f>(&self, facts: &'f Facts, axis: usize) -> Result<&'f Axis> {
        match facts.axes.get(axis) {
            Some(axis) => Ok(axis),
            None => self.mismatch(format!("{facts} has no axis number {axis}")),
        }
    }

    fn number<'f>(&self, facts: &'f Facts) -> Result<&'f Facts> {
        match facts.kind {
            KindTag::Bool => self.mismatch(format!("{facts} are truth values; cast them to numbers first")),
            KindTag::Float | KindTag::Int => Ok(facts),
        }
    }

    fn truth<'f>(&self, facts: &'f Facts) -> Result<&'f Facts> {
        match facts.kind {
            KindTag::Bool => Ok(facts),
            KindTag::Float | KindTag::Int => self.mismatch(format!("{facts} are no truth values; compare them with something")),
        }
    }

    fn no_padding(&self, axis: &Axis) -> Result<()> {
        match axis.ragged {
            false => Ok(()),
            true => {
                Err(Error::Ragged { op: self.graph.node(self.id).op.name(), axis: axis.name.to_string(), source_line: self.graph.source(self.id) })
            }
        }
    }

    /// Whether `value` may be written into something of the facts `part`.
    fn fits(&self, part: &Facts, value: &Facts) -> Result<()> {
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
    fn broadcast(&self, a: &Facts, b: &Facts) -> Result<Vec<Axis>> {
        let (longer, shorter) = if a.axes.len() >= b.axes.len() { (a, b) } else { (b, a) };
        let mut axes = longer.axes.clone();
        let offset = axes.len() - shorter.axes.len();
        for (axis, other) in axes[offset..].iter_mut().zip(&shorter.axes) {
            axis.ragged |= other.ragged;
            match (axis.size, other.size) {
                (Some(1), _) if other.size != Some(1) => *axis = other.clone(),
                (Some(_), Some(1)) | (Some(_), None) => {}
                (None, size) => axis.size = if size == Some(1) { None } else { size },
                (Some(size), Some(found)) if size == found => {}
                _ => return self.mismatch(format!("{a} and {b} do not broadcast")),
            }
        }
        Ok(axes)
    }

    fn reduce(&self, reduce: Reduce, axis: Option<usize>, keep: bool, facts: &Facts) -> Result<Facts> {
        let kind = match reduce {
            Reduce::ArgMax | Reduce::ArgMin => KindTag::Int,
            Reduce::Mean | Reduce::Var | Reduce::Norm => KindTag::Float,
            Reduce::Sum | Reduce::Max | Reduce::Min => facts.kind,
        };
        let Some(axis) = axis else {
            for axis in &facts.axes {
                self.no_padding(axis)?;
            }
            return Ok(Facts::scalar(kind));
        };
        self.no_padding(self.axis(facts, axis)?)?;
        let mut axes = facts.axes.clone();
        match keep {
            true => axes[axis].size = Some(1),
            false => drop(axes.remove(axis)),
        }
        Ok(Facts { kind, axes })
    }

    fn matmul(&self, a: &Facts, b: &Facts) -> Result<Facts> {
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
        self.no_padding(inner)?;
        let mut facts = Facts { kind: KindTag::Float, axes: a.axes.clone() };
        if let Some(last) = facts.axes.last_mut() {
            *last = columns.clone();
        }
        Ok(facts)
    }

    fn permute(&self, facts: &Facts, order: &[usize], names: &[String]) -> Result<Facts> {
        let mut seen = vec![false; facts.axes.len()];
        let valid = order.len() == facts.axes.len()
            && names.len() == order.len()
            && order.iter().all(|&axis| axis < seen.len() && !std::mem::replace(&mut seen[axis], true));
        if !valid {
            return self.mismatch(format!("{order:?} is no order of the axes of {facts}"));
        }
        let axes = order.iter().zip(names).map(|(&axis, name)| Axis { name: name.clone().into(), ..facts.axes[axis].clone() });
        Ok(Facts { kind: facts.kind, axes: axes.collect() })
    }

    fn split(&self, facts: &Facts, axis: usize, into: &[(String, Option<usize>); 2]) -> Result<Facts> {
        let size = self.axis(facts, axis)?.size;
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

    fn part(&self, facts: &Facts, region: &Region) -> Result<Facts> {
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
                    None => return self.mismatch(format!("{step} lies outside of the axis {axis}")),
                }
            } else if !step.single {
                axis.size = None;
            }
            if step.single {
                axis.ragged = false;
                gone[index] = true;
            }
        }
        let kept = axes.into_iter().zip(gone).filter(|(_, gone)| !gone).map(|(axis, _)| axis);
        Ok(Facts { kind: facts.kind, axes: kept.collect() })
    }
}
