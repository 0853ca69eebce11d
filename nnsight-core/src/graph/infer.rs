//! Kinds, ranks and sizes of every node, found without computing anything.

use std::cell::Cell;

use candle_core::DType;

use super::AxisRole;
use super::cost::{Cost, entries};
use super::inferred::Inferred;
use super::{At, Axis, Body, Facts, Graph, Invoke, InvokeId, Limits, Node, NodeId, Op, Region, Rollout};
use crate::graph::KindTag;
use crate::{Error, Result};

/// What inference asks of a model.
pub trait Environment {
    /// What a site holds at one visit, or `None` where the model has no such site.
    fn site(&self, at: At, path: &str) -> Option<Facts>;
    /// The number of inputs of an invoke.
    fn rows(&self, invoke: InvokeId) -> Option<usize>;
    /// The axes that a module takes and gives innermost, or `None` where it cannot be applied by hand.
    fn module(&self, path: &str) -> Option<(Axis, Axis)>;
    /// The path that comes closest to a wrong one.
    fn suggest(&self, path: &str) -> Option<String>;
    /// The type in which floating-point numbers are computed.
    fn dtype(&self) -> DType {
        DType::F32
    }
}

/// Gives the facts of every node, and what each costs.
///
/// # Errors
/// [`Error::NoSite`], [`Error::NoModule`], [`Error::Mismatch`], [`Error::Ragged`] or [`Error::OverLimit`], with the line in the user's program;
/// [`Error::TooLarge`].
pub fn infer(graph: &Graph, environment: &impl Environment, limits: &Limits) -> Result<Inferred> {
    let open = graph.invokes.iter().map(Invoke::steps).max().unwrap_or(1).max(1);
    let mut inferred = Inferred::default();
    let names = Cell::new(0);
    for (id, node) in graph.iter() {
        let Inferred { facts: known, costs, .. } = &inferred;
        let names = &names;
        let (facts, cost, body) = Inference { graph, environment, limits, open, names, id, op: &node.op, body: None, known, costs }.all(node)?;
        inferred.push(id, facts, cost, body);
    }
    Ok(inferred)
}

pub(super) struct Inference<'a, E> {
    pub graph: &'a Graph,
    pub environment: &'a E,
    limits: &'a Limits,
    /// The most entries of an axis whose size is known only when the graph runs.
    open: usize,
    /// Bytes of the names that facts hold copies of.
    names: &'a Cell<usize>,
    /// The node of the graph that this is, or is in.
    pub id: NodeId,
    pub op: &'a Op,
    /// The loop whose nodes these are, where they stand in one.
    pub body: Option<&'a Body>,
    pub known: &'a [Facts],
    pub costs: &'a [Cost],
}

impl<E: Environment> Inference<'_, E> {
    /// What is known of a node, what it costs, and what is known of its body.
    fn all(&self, node: &Node) -> Result<(Facts, Cost, Option<Inferred>)> {
        self.check_stored(node)?;
        node.guards.iter().try_for_each(|guard| self.condition(guard.condition))?;
        let (facts, body) = match &node.op {
            Op::Loop(body) => self.repeat(node, body).map(|(facts, body)| (facts, Some(body)))?,
            _ => (self.node(node)?, None),
        };
        self.count_names(&facts)?;
        let args = node.args.iter().map(|arg| (&self.known[arg.index()], self.costs[arg.index()].entries)).collect::<Vec<_>>();
        let mut cost = Cost::of(&node.op, &args, &facts, (self.open, self.environment.dtype()));
        cost.stored = self.stored(node, &facts)?;
        if let (Op::Loop(repeated), Some(inside)) = (&node.op, &body) {
            self.add_rounds(&mut cost, repeated, node, inside);
        }
        self.check_size(&facts, &cost)?;
        Ok((facts, cost, body))
    }

    /// Refuses more copies of names than there is memory for.
    fn count_names(&self, facts: &Facts) -> Result<()> {
        let found = facts.axes.iter().fold(self.names.get(), |names, axis| names.saturating_add(size_of::<Axis>() + axis.name.len()));
        self.names.set(found);
        match found <= self.limits.bytes {
            true => Ok(()),
            false => self.over_limit("bytes of axes' names", found, self.limits.bytes),
        }
    }

    /// Adds to the cost of a loop that of its rounds.
    fn add_rounds(&self, cost: &mut Cost, body: &Body, node: &Node, inside: &Inferred) {
        let (work, rounds, bytes) = inside.round(body.parameters());
        let count = match body.over {
            Some(axis) => self.arg(node, body.loop_carried).axes.get(axis).map_or(0, |axis| axis.size.unwrap_or(self.open)),
            // The others are counted as the loop goes round.
            None => 1,
        };
        let carried = node.args.iter().take(body.loop_carried).map(|arg| self.costs[arg.index()].bytes);
        cost.bytes = carried.fold(0, usize::saturating_add);
        cost.work = cost.work.saturating_add(work.saturating_mul(count));
        cost.rounds = rounds.saturating_add(1).saturating_mul(count);
        cost.beside = bytes;
        cost.largest = inside.costs.iter().map(|cost| cost.largest).max().unwrap_or(0);
    }

    /// Refuses a value that no machine could hold, before anything is allocated for it.
    fn check_size(&self, facts: &Facts, cost: &Cost) -> Result<()> {
        // An axis without entries makes the product zero, and the strides overflow all the same.
        let strides = facts.axes.iter().try_fold(1usize, |product, axis| product.checked_mul(axis.size.unwrap_or(1).max(1)));
        let limit = self.limits.value_entries;
        match strides {
            Some(product) if product <= limit && cost.largest <= limit => Ok(()),
            product => self.over_limit("entries in one value", product.unwrap_or(usize::MAX).max(cost.largest), limit),
        }
    }

    fn over_limit<T>(&self, what: &'static str, found: usize, limit: usize) -> Result<T> {
        Err(Error::OverLimit { op: self.op.name(), what, found, limit, source_line: self.graph.source(self.id) })
    }

    fn arg(&self, node: &Node, index: usize) -> &Facts {
        &self.known[node.args[index].index()]
    }

    fn node(&self, node: &Node) -> Result<Facts> {
        match &node.op {
            Op::Get { at, site } => self.site(*at, self.graph.site(*site)),
            Op::Set { at, site, region, .. } => self.set(*at, self.graph.site(*site), region, node.args[0]),
            Op::Skip { at, site, .. } => self.set(*at, self.graph.site(*site), &Region::default(), node.args[0]),
            Op::Stop { at, site } => self.site(*at, self.graph.site(*site)),
            Op::Loop(body) => self.repeat(node, body).map(|(facts, _)| facts),
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
            Op::Store { .. } => Ok(self.arg(node, 0).clone()),
            Op::Output { invoke } => {
                let rollout = self.graph.invokes.get(invoke.index()).and_then(|invoke| invoke.rollout.as_ref());
                let Some(Rollout { output, .. }) = rollout else { return self.mismatch("there is no rollout".into()) };
                let mut axes = output.axes.clone();
                for axis in axes.iter_mut().filter(|axis| axis.role == AxisRole::Row) {
                    axis.size = self.environment.rows(*invoke);
                }
                Ok(Facts { kind: output.kind, axes })
            }
            Op::Grad => self.gradient(node),
            Op::SetGrad => {
                let of = self.gradient(node)?;
                self.fits(&of, self.arg(node, 2))?;
                Ok(of)
            }
            Op::Constant(constant) => self.constant(constant.index()),
            Op::Scalar(_) => Ok(Facts::scalar(KindTag::Float)),
            Op::Unary(unary) => {
                self.unary(*unary, self.arg(node, 0))?;
                Ok(self.arg(node, 0).clone())
            }
            Op::Binary(_) => {
                let (a, b) = (self.number(self.arg(node, 0))?, self.number(self.arg(node, 1))?);
                Ok(Facts { kind: self.common_kind(node.args[0], node.args[1])?, axes: self.broadcast(a, b)? })
            }
            Op::Compare(_) => {
                self.common_kind(node.args[0], node.args[1])?;
                Ok(Facts { kind: KindTag::Bool, axes: self.broadcast(self.arg(node, 0), self.arg(node, 1))? })
            }
            Op::Logic(_) => {
                let first = self.truth(self.arg(node, 0))?;
                match node.args.get(1) {
                    None => Ok(first.clone()),
                    Some(second) => Ok(Facts { kind: KindTag::Bool, axes: self.broadcast(first, self.truth(&self.known[second.index()])?)? }),
                }
            }
            Op::Reduce { reduce, axis, keep } => self.reduce(*reduce, *axis, *keep, self.number(self.arg(node, 0))?),
            Op::Softmax { axis, .. } => {
                let facts = self.float(self.arg(node, 0))?;
                self.no_padding(self.not_empty(self.axis(facts, *axis)?)?)?;
                Ok(facts.clone())
            }
            Op::CumSum { axis } => {
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
                self.no_padding(&left)?;
                self.no_padding(&right)?;
                facts.axes[*axis] = Axis::new(name.clone(), left.size.zip(right.size).and_then(|(a, b)| a.checked_mul(b)));
                facts.axes.remove(*axis + 1);
                Ok(facts)
            }
            Op::Rename { axis, name } => {
                let mut facts = self.arg(node, 0).clone();
                self.axis(&facts, *axis)?;
                facts.axes[*axis].name = name.clone().into();
                Ok(facts)
            }
            Op::Slice(region) => {
                self.may_come_out(node.args[0], region)?;
                self.part(self.arg(node, 0), region)
            }
            Op::Patch(region) => {
                let base = self.arg(node, 0);
                let part = self.part(base, region)?;
                self.fits(&part, self.arg(node, 1))?;
                self.goes_into(node.args[1], base.kind)?;
                Ok(base.clone())
            }
            Op::Pick { axis } => {
                let mut facts = self.arg(node, 0).clone();
                self.indices(node.args[1], self.axis(&facts, *axis)?, false)?;
                facts.axes.remove(*axis);
                let index = self.arg(node, 1);
                if index.kind != KindTag::Int || !same_sizes(&index.axes, &facts.axes, None) {
                    return self.mismatch(format!("{index} does not give one index for each entry of {facts}"));
                }
                Ok(facts)
            }
            Op::Gather { axis } => {
                let (facts, index) = (self.arg(node, 0), self.arg(node, 1));
                self.indices(node.args[1], self.axis(facts, *axis)?, false)?;
                if index.kind != KindTag::Int || !same_sizes(&index.axes, &facts.axes, Some(*axis)) {
                    return self.mismatch(format!("{index} does not hold indices for {facts}"));
                }
                Ok(Facts { kind: facts.kind, axes: index.axes.clone() })
            }
            Op::IndexSelect { axis } => {
                let (mut facts, index) = (self.arg(node, 0).clone(), self.arg(node, 1));
                self.indices(node.args[1], self.axis(&facts, *axis)?, true)?;
                if index.kind != KindTag::Int || index.axes.len() != 1 {
                    return self.mismatch(format!("{index} is not a list of indices"));
                }
                facts.axes[*axis].size = index.axes[0].size;
                Ok(facts)
            }
            Op::Scatter { axis } => {
                let (base, index) = (self.arg(node, 0).clone(), self.arg(node, 1));
                self.indices(node.args[1], self.axis(&base, *axis)?, true)?;
                if index.kind != KindTag::Int || index.axes.len() != 1 {
                    return self.mismatch(format!("{index} is not a list of indices"));
                }
                let mut part = base.clone();
                part.axes[*axis].size = index.axes[0].size;
                self.fits(&part, self.arg(node, 2))?;
                self.goes_into(node.args[2], base.kind)?;
                Ok(base)
            }
            Op::Cat { axis } => {
                let mut facts = self.arg(node, 0).clone();
                self.axis(&facts, *axis)?;
                for &other in &node.args[1..] {
                    let other = &self.known[other.index()];
                    if !same_sizes(&other.axes, &facts.axes, Some(*axis)) || other.kind != facts.kind {
                        return self.mismatch(format!("{other} does not continue {facts}"));
                    }
                    let sizes = facts.axes[*axis].size.zip(other.axes[*axis].size);
                    facts.axes[*axis].size = sizes.map(|(a, b)| a.saturating_add(b));
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
                let kind = self.common_kind(node.args[1], node.args[2])?;
                let (a, b) = (self.arg(node, 1), self.arg(node, 2));
                let axes = self.broadcast(&Facts { kind, axes: self.broadcast(a, b)? }, condition)?;
                Ok(Facts { kind, axes })
            }
            Op::Choose => {
                self.condition(node.args[0])?;
                let (a, b) = (self.arg(node, 1), self.arg(node, 2));
                if a.axes.len() != b.axes.len() {
                    return self.mismatch(format!("one branch gives {a}, the other {b}"));
                }
                let mut facts = Facts { kind: self.common_kind(node.args[1], node.args[2])?, axes: a.axes.clone() };
                // Which of the branches is run is known only then.
                facts.axes.iter_mut().zip(&b.axes).filter(|(a, b)| a.size != b.size).for_each(|(a, _)| a.size = None);
                Ok(facts)
            }
            Op::TopK { k, indices } => {
                let mut facts = self.number(self.arg(node, 0))?.clone();
                let Some(last) = facts.axes.last_mut() else { return self.mismatch("a single number has no largest entries".into()) };
                if *k == 0 || last.size.is_some_and(|size| size < *k) {
                    let last = last.clone();
                    return self.mismatch(format!("there are no {k} largest entries of the axis {last}"));
                }
                self.no_padding(last)?;
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
                let entries = Axis::new(name.clone(), Some(*size));
                self.indices(node.args[0], &entries, false)?;
                facts.axes.push(entries);
                facts.kind = KindTag::Float;
                Ok(facts)
            }
            Op::Full(number) => {
                self.fits_kind(*number, self.arg(node, 0).kind)?;
                Ok(self.arg(node, 0).clone())
            }
            Op::Randn { .. } => Ok(Facts { kind: KindTag::Float, axes: self.arg(node, 0).axes.clone() }),
            Op::Cast(kind) => Ok(Facts { kind: *kind, axes: self.arg(node, 0).axes.clone() }),
            Op::Call { module } => {
                let mut facts = self.float(self.arg(node, 0))?.clone();
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

    /// Refuses a part of what comes out of a rollout that lies beyond the largest number of steps.
    fn may_come_out(&self, whole: NodeId, region: &Region) -> Result<()> {
        let rollout = |id| match (self.body, &self.graph.node(id).op) {
            (None, Op::Output { invoke }) => self.graph.invokes.get(invoke.index())?.rollout.as_ref(),
            _ => None,
        };
        let Some(rollout) = rollout(whole) else { return Ok(()) };
        let mut longest = self.known[whole.index()].clone();
        for axis in longest.axes.iter_mut().filter(|axis| axis.role == AxisRole::Position) {
            axis.size = Some(rollout.steps);
        }
        self.part(&longest, region).map(|_| ())
    }

    /// Goes through the body of a loop once: what it carries must come out as it went in.
    fn repeat(&self, node: &Node, body: &Body) -> Result<(Facts, Inferred)> {
        let mut inside = Inferred::default();
        for arg in &node.args {
            self.count_names(&self.known[arg.index()])?;
            inside.facts.push(self.known[arg.index()].clone());
            inside.costs.push(Cost { work: 0, beside: 0, rounds: 0, ..self.costs[arg.index()].clone() });
        }
        if let Some(axis) = body.over {
            let rows = &mut inside.facts[body.loop_carried];
            self.no_padding(self.axis(rows, axis)?)?;
            rows.axes.remove(axis);
            inside.costs[body.loop_carried].entries = entries(rows, self.open);
        }
        for inner in &body.nodes {
            let id = NodeId(inside.facts.len() as u32);
            let found = Inference { op: &inner.op, body: Some(body), known: &inside.facts, costs: &inside.costs, ..*self }.all(inner)?;
            inside.push(id, found.0, found.1, found.2);
        }
        for (index, given) in body.yields.iter().enumerate() {
            let (before, after) = (&inside.facts[index], &inside.facts[given.index()]);
            if before.kind != after.kind || !same_sizes(&before.axes, &after.axes, None) {
                return self.mismatch(format!("a round makes {after} of {before}; what is carried on must keep its shape"));
            }
            if let Some(dtype) = inside.costs[given.index()].stored {
                return self.mismatch(format!("a value that is kept as `{}` cannot be carried on", dtype.as_str()));
            }
        }
        if let Some(condition) = body.condition {
            Inference { body: Some(body), known: &inside.facts, costs: &inside.costs, ..*self }.condition(condition)?;
        }
        Ok((inside.facts[0].clone(), inside))
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
        let single = loss.axes.iter().all(|axis| axis.role == AxisRole::Row);
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

    fn set(&self, at: At, path: &str, region: &Region, value: NodeId) -> Result<Facts> {
        let whole = self.site(at, path)?;
        let part = self.part(&whole, region)?;
        self.fits(&part, &self.known[value.index()])?;
        self.goes_into(value, whole.kind)?;
        Ok(whole)
    }
}

/// Whether two values have the same axes but for one, as far as their sizes are known.
fn same_sizes(a: &[Axis], b: &[Axis], but: Option<usize>) -> bool {
    let differ = |(index, (a, b)): (usize, (&Axis, &Axis))| Some(index) != but && a.size.zip(b.size).is_some_and(|(a, b)| a != b);
    a.len() == b.len() && !a.iter().zip(b).enumerate().any(differ)
}
