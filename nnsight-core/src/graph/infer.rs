//! Kinds, ranks and sizes of every node, found without computing anything.

use super::{At, Axis, Body, Facts, Graph, InvokeId, Limits, Node, NodeId, Op, Region};
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

pub(super) struct Inference<'a, E> {
    pub graph: &'a Graph,
    environment: &'a E,
    pub id: NodeId,
    /// The loop whose nodes these are, where they stand in one.
    body: Option<&'a Body>,
    known: &'a [Facts],
}

impl<E: Environment> Inference<'_, E> {
    fn arg(&self, node: &Node, index: usize) -> &Facts {
        &self.known[node.args[index].index()]
    }

    pub(super) fn mismatch<T>(&self, problem: String) -> Result<T> {
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
                    return Err(Error::NoModule { path: crate::error::shortened(module), suggestion, source_line: self.graph.source(self.id) });
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
            return Err(Error::NoOperation { name: crate::error::shortened(name), suggestion, source_line: self.graph.source(self.id) });
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
            path: crate::error::shortened(path),
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
}
