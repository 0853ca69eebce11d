//! The one check that everything passes which arrives as data.

use super::{Body, Graph, Input, Limits, Node, NodeId, Op, Region, Unary, names};
use crate::{Error, Result};

/// Loops inside of each other, at most.
pub(super) const DEEPEST: usize = 8;

/// Steps that a part of a tensor is described by, at most.
const REGION: usize = 64;

impl Graph {
    /// Checks that every id points somewhere, that arguments stand before what uses them, that each operation has the arguments it
    /// needs, that every number is finite, and that nothing is larger than the limits.
    ///
    /// Ranks and sizes are checked by [`infer`](super::infer), which also needs the model's sites.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Dangling`], [`Error::Arity`], [`Error::NotFinite`] or [`Error::EmptyInvoke`].
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        self.check_sizes(limits)?;
        self.check_names(limits)?;
        for (index, invoke) in self.invokes.iter().enumerate() {
            if invoke.inputs.is_empty() != invoke.all_inputs {
                return Err(Error::EmptyInvoke { invoke: index, source_line: invoke.source.clone() });
            }
            let Some(rollout) = &invoke.rollout else { continue };
            let (size, source_line) = (rollout.size(), || invoke.source.clone());
            // Every step may look at all of them.
            if size > limits.name_bytes {
                let what = "bytes of settings of a rollout";
                return Err(Error::TooLarge { what, found: size, limit: limits.name_bytes, source_line: source_line() });
            }
            if rollout.output.axes.len() > 5 {
                return Err(Error::Rollout { problem: "what comes out of it has more than five axes".into(), source_line: source_line() });
            }
            if rollout.steps > limits.steps {
                return Err(Error::TooLarge { what: "steps of a rollout", found: rollout.steps, limit: limits.steps, source_line: source_line() });
            }
        }
        let mut count = self.nodes.len();
        for (id, node) in self.iter() {
            self.check_node(id, node, limits, &mut count)?;
        }
        for &save in &self.saves {
            if save.index() >= self.nodes.len() {
                return Err(Error::Dangling { what: "saved value", id: save.0, node: None, source_line: None });
            }
            if matches!(self.node(save).op, Op::Loop(_)) {
                return Err(Error::Dangling { what: "saved value (the values of a loop are its items)", id: save.0, node: None, source_line: None });
            }
        }
        Ok(())
    }

    fn check_sizes(&self, limits: &Limits) -> Result<()> {
        let lists = [
            ("nodes", self.nodes.len()),
            ("sites", self.sites.len()),
            ("saves", self.saves.len()),
            ("sources", self.sources.len()),
            ("invokes", self.invokes.len()),
            ("constants", self.constants.len()),
        ];
        for (what, found) in lists {
            if found > limits.nodes {
                return Err(Error::TooLarge { what, found, limit: limits.nodes, source_line: None });
            }
        }
        let sum = |sum: usize, entries: usize| sum.saturating_add(entries);
        let entries = self.constants.iter().map(|constant| constant.tensor.elem_count()).fold(0, sum);
        if entries > limits.constant_entries {
            return Err(Error::TooLarge { what: "entries of constants", found: entries, limit: limits.constant_entries, source_line: None });
        }
        let size = self.invokes.iter().flat_map(|invoke| &invoke.inputs).map(Input::size).fold(0, sum);
        if size > limits.input_size {
            return Err(Error::TooLarge { what: "entries or bytes of inputs", found: size, limit: limits.input_size, source_line: None });
        }
        // A block on all inputs has a copy of them, and is ordered with every other block.
        let own = self.invokes.iter().map(|invoke| invoke.inputs.len()).fold(0, sum);
        let seeing_all = self.invokes.iter().filter(|invoke| invoke.all_inputs).count();
        let inputs = own.saturating_add(seeing_all.saturating_mul(own.max(self.invokes.len())));
        if inputs > limits.inputs {
            return Err(Error::TooLarge {
                what: "inputs, counted for every block that sees them",
                found: inputs,
                limit: limits.inputs,
                source_line: None,
            });
        }
        Ok(())
    }

    fn check_node(&self, id: NodeId, node: &Node, limits: &Limits, count: &mut usize) -> Result<()> {
        names::check_node(node, limits)?;
        let dangling = |what: &'static str, missing: u32| Error::Dangling { what, id: missing, node: Some(id.0), source_line: self.source(id) };
        for &arg in &node.args {
            if arg >= id {
                return Err(dangling("argument", arg.0));
            }
            if matches!(self.node(arg).op, Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. } | Op::SetGrad) {
                return Err(dangling("argument (an assignment has no value)", arg.0));
            }
            if matches!(self.node(arg).op, Op::Loop(_)) && !matches!(node.op, Op::Item { .. }) {
                return Err(dangling("argument (the values of a loop are its items)", arg.0));
            }
        }
        for guard in &node.guards {
            if guard.condition >= id {
                return Err(dangling("condition", guard.condition.0));
            }
        }
        if node.source.index() >= self.sources.len() {
            return Err(dangling("source", node.source.0));
        }
        let (least, most) = node.op.arity();
        if !(least..=most).contains(&node.args.len()) {
            return Err(Error::Arity { node: id.0, op: node.op.name(), found: node.args.len(), source_line: self.source(id) });
        }
        self.check_numbers(id, &node.op)?;
        match &node.op {
            Op::Output { invoke } => match self.invokes.get(invoke.index()) {
                Some(invoke) if invoke.rollout.is_some() => Ok(()),
                _ => Err(dangling("invoke with a rollout", invoke.0)),
            },
            Op::Get { at, site } | Op::Set { at, site, .. } | Op::Skip { at, site, .. } | Op::Stop { at, site } => {
                let Some(invoke) = self.invokes.get(at.invoke.index()) else {
                    return Err(dangling("invoke", at.invoke.0));
                };
                let steps = invoke.steps();
                if at.step as usize >= steps {
                    return Err(Error::NoStep { step: i64::from(at.step), steps, source_line: self.source(id) });
                }
                if site.index() >= self.sites.len() {
                    return Err(dangling("site", site.0));
                }
                Ok(())
            }
            Op::Constant(constant) if constant.index() >= self.constants.len() => Err(dangling("constant", constant.0)),
            Op::Loop(body) => self.check_body((id, node), body, 0, limits, count),
            Op::Item { index } => match node.args.first().map(|&arg| &self.node(arg).op) {
                Some(Op::Loop(body)) if *index < body.loop_carried => Ok(()),
                _ => Err(dangling("value of a loop", *index as u32)),
            },
            Op::Apply { function, .. } if function.index() >= self.functions.len() => Err(dangling("function", function.0)),
            _ => Ok(()),
        }
    }

    /// Checks the numbers that an operation carries.
    fn check_numbers(&self, id: NodeId, op: &Op) -> Result<()> {
        let finite = |number: f64| match number.is_finite() {
            true => Ok(()),
            false => Err(Error::NotFinite { number, source_line: self.source(id) }),
        };
        match op {
            Op::Custom { parameters, .. } => parameters.iter().try_for_each(|&number| finite(number)),
            Op::Scalar(number) | Op::Full(number) | Op::Unary(Unary::Powf(number)) => finite(*number),
            Op::Unary(Unary::Clamp(low, high)) => finite(*low).and_then(|()| finite(*high)),
            Op::Set { region: Region(steps), .. } | Op::Slice(Region(steps)) | Op::Patch(Region(steps)) if steps.len() > REGION => {
                Err(Error::TooLarge { what: "steps in a part of a value", found: steps.len(), limit: REGION, source_line: None })
            }
            _ => Ok(()),
        }
    }

    /// Checks the body of a loop: it computes, and does nothing to the model.
    fn check_body(&self, (id, node): (NodeId, &Node), body: &Body, depth: usize, limits: &Limits, count: &mut usize) -> Result<()> {
        *count = count.saturating_add(body.nodes.len());
        if *count > limits.nodes {
            return Err(Error::TooLarge { what: "nodes", found: *count, limit: limits.nodes, source_line: self.source(id) });
        }
        // Those that were recorded end as soon as the run has had its rounds, and need no other limit for that.
        let rounds = limits.rounds.max(Body::ROUNDS as usize);
        if body.limit as usize > rounds {
            return Err(Error::TooLarge { what: "rounds of a loop", found: body.limit as usize, limit: rounds, source_line: self.source(id) });
        }
        let dangling = |what: &'static str, missing: u32| Error::Dangling { what, id: missing, node: Some(id.0), source_line: self.source(id) };
        let first = body.loop_carried.saturating_add(body.captured).saturating_add(usize::from(body.over.is_some()));
        if first != node.args.len() || body.yields.len() != body.loop_carried || body.loop_carried == 0 || depth > DEEPEST {
            return Err(Error::Arity { node: id.0, op: node.op.name(), found: node.args.len(), source_line: self.source(id) });
        }
        let end = first + body.nodes.len();
        for (index, inner) in body.nodes.iter().enumerate() {
            let uses = inner.args.iter().chain(inner.guards.iter().map(|guard| &guard.condition));
            if let Some(missing) = uses.into_iter().find(|used| used.index() >= first + index) {
                return Err(dangling("value in a loop", missing.0));
            }
            let (least, most) = inner.op.arity();
            if !(least..=most).contains(&inner.args.len()) {
                return Err(Error::Arity { node: id.0, op: inner.op.name(), found: inner.args.len(), source_line: self.source(id) });
            }
            let is_loop = |arg: &&NodeId| matches!(body.node(**arg).map(|node| &node.op), Some(Op::Loop(_)));
            if let Some(arg) = inner.args.iter().find(is_loop).filter(|_| !matches!(inner.op, Op::Item { .. })) {
                return Err(dangling("argument (the values of a loop are its items)", arg.0));
            }
            names::check_node(inner, limits)?;
            self.check_numbers(id, &inner.op)?;
            match &inner.op {
                Op::Get { .. } | Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. } | Op::Output { .. } | Op::Grad | Op::SetGrad => {
                    return Err(dangling("operation that a loop can repeat", index as u32));
                }
                Op::Constant(constant) if constant.index() >= self.constants.len() => return Err(dangling("constant", constant.0)),
                Op::Apply { function, .. } if function.index() >= self.functions.len() => return Err(dangling("function", function.0)),
                Op::Loop(nested) => self.check_body((id, inner), nested, depth + 1, limits, count)?,
                Op::Item { index } => match body.node(inner.args[0]).map(|node| &node.op) {
                    Some(Op::Loop(nested)) if *index < nested.loop_carried => {}
                    _ => return Err(dangling("value of a loop", *index as u32)),
                },
                _ => {}
            }
        }
        match body.yields.iter().chain(&body.condition).find(|given| given.index() >= end) {
            Some(missing) => Err(dangling("value that a loop gives", missing.0)),
            None => Ok(()),
        }
    }

    /// Checks that no constant, and no tensor of an input, holds NaN or an infinity.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the line that brought it in, [`Error::InputNotFinite`].
    pub fn check_constants(&self) -> Result<()> {
        for (id, node) in self.iter() {
            if let Op::Constant(constant) = node.op
                && let Some(number) = not_finite(&self.constants[constant.index()].tensor)?
            {
                return Err(Error::NotFinite { number, source_line: self.source(id) });
            }
        }
        for (invoke, content) in self.invokes.iter().enumerate() {
            for (input, content) in content.inputs.iter().enumerate() {
                if let Some(number) = content.not_finite()? {
                    return Err(Error::InputNotFinite { number, invoke, input, source_line: None });
                }
            }
        }
        Ok(())
    }
}

/// What the entries of a tensor come to, if they are not all finite.
///
/// # Errors
/// If the device fails.
pub fn not_finite(tensor: &candle_core::Tensor) -> Result<Option<f64>> {
    if !tensor.dtype().is_float() || tensor.elem_count() == 0 {
        return Ok(None);
    }
    // A sum is finite exactly where every entry is, up to overflow, which is worth the same refusal.
    let sum = tensor.abs()?.to_dtype(candle_core::DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    Ok(Some(sum).filter(|sum| !sum.is_finite()))
}
