//! The one check that everything passes which arrives as data.

use super::{Body, Generation, Graph, Node, NodeId, Op, Prompt, Unary};
use crate::{Error, Result};

/// How large a graph may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of any list of the graph.
    pub nodes: usize,
    /// Entries of all constants together.
    pub constant_entries: usize,
    /// Entries of any value.
    pub value_entries: usize,
    /// Tokens of all prompts together.
    pub tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { nodes: 1_000_000, constant_entries: 1 << 30, value_entries: 1 << 31, tokens: 1 << 24 }
    }
}

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
        for (index, invoke) in self.invokes.iter().enumerate() {
            if invoke.prompts.is_empty() != invoke.everything {
                return Err(Error::EmptyInvoke { invoke: index });
            }
            if let Some(problem) = invoke.generation.as_ref().and_then(Generation::problem) {
                return Err(Error::Generation { problem });
            }
            let steps = invoke.generation.as_ref().map_or(0, |generation| generation.max_new_tokens);
            if steps > limits.tokens {
                return Err(Error::TooLarge { what: "tokens to generate", found: steps, limit: limits.tokens });
            }
        }
        for (id, node) in self.iter() {
            self.check_node(id, node)?;
        }
        for &save in &self.saves {
            if save.index() >= self.nodes.len() {
                return Err(Error::Dangling { what: "saved value", id: save.0, node: None });
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
                return Err(Error::TooLarge { what, found, limit: limits.nodes });
            }
        }
        let entries: usize = self.constants.iter().map(|constant| constant.tensor.elem_count()).sum();
        if entries > limits.constant_entries {
            return Err(Error::TooLarge { what: "entries of constants", found: entries, limit: limits.constant_entries });
        }
        let length = |prompt: &Prompt| match prompt {
            Prompt::Text(text) => text.len(),
            Prompt::Tokens(tokens) => tokens.len(),
            Prompt::Embeddings(constant) => constant.tensor.elem_count(),
            Prompt::Masked { tokens, seen } => tokens.len().max(seen.len()),
            Prompt::Chat(chat) => chat.len(),
        };
        let tokens: usize = self.invokes.iter().flat_map(|invoke| &invoke.prompts).map(length).sum();
        if tokens > limits.tokens {
            return Err(Error::TooLarge { what: "tokens or bytes of prompts", found: tokens, limit: limits.tokens });
        }
        Ok(())
    }

    fn check_node(&self, id: NodeId, node: &Node) -> Result<()> {
        let dangling = |what: &'static str, missing: u32| Error::Dangling { what, id: missing, node: Some(id.0) };
        for &arg in &node.args {
            if arg >= id {
                return Err(dangling("argument", arg.0));
            }
            if matches!(self.node(arg).op, Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. } | Op::SetGrad) {
                return Err(dangling("argument (an assignment has no value)", arg.0));
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
        let finite = |number: f64| match number.is_finite() {
            true => Ok(()),
            false => Err(Error::NotFinite { number, source_line: self.source(id) }),
        };
        match &node.op {
            Op::Tokens { invoke } => match self.invokes.get(invoke.index()) {
                Some(invoke) if invoke.generation.is_some() => Ok(()),
                _ => Err(dangling("invoke that generates", invoke.0)),
            },
            Op::Get { at, site } | Op::Set { at, site, .. } | Op::Skip { at, site, .. } | Op::Stop { at, site } => {
                let Some(invoke) = self.invokes.get(at.invoke.index()) else {
                    return Err(dangling("invoke", at.invoke.0));
                };
                let steps = invoke.generation.as_ref().map_or(1, |generation| generation.max_new_tokens);
                if at.step as usize >= steps {
                    return Err(Error::NoStep { step: i64::from(at.step), steps, source_line: self.source(id) });
                }
                if site.index() >= self.sites.len() {
                    return Err(dangling("site", site.0));
                }
                Ok(())
            }
            Op::Constant(constant) if constant.index() >= self.constants.len() => Err(dangling("constant", constant.0)),
            Op::Loop(body) => self.check_body(id, node, body, 0),
            Op::Item { index } => match node.args.first().map(|&arg| &self.node(arg).op) {
                Some(Op::Loop(body)) if *index < body.carried => Ok(()),
                _ => Err(dangling("value of a loop", *index as u32)),
            },
            Op::Apply { function, .. } if function.index() >= self.functions.len() => Err(dangling("function", function.0)),
            Op::Custom { parameters, .. } => parameters.iter().try_for_each(|&number| finite(number)),
            Op::Scalar(number) | Op::Full(number) | Op::Unary(Unary::Powf(number)) => finite(*number),
            Op::Unary(Unary::Clamp(low, high)) => finite(*low).and_then(|()| finite(*high)),
            _ => Ok(()),
        }
    }

    /// Checks the body of a loop: it computes, and does nothing to the model.
    fn check_body(&self, id: NodeId, node: &Node, body: &Body, depth: usize) -> Result<()> {
        let dangling = |what: &'static str, missing: u32| Error::Dangling { what, id: missing, node: Some(id.0) };
        let first = body.carried.saturating_add(body.captured).saturating_add(usize::from(body.over.is_some()));
        if first != node.args.len() || body.gives.len() != body.carried || body.carried == 0 || depth > 8 {
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
            match &inner.op {
                Op::Get { .. } | Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. } | Op::Tokens { .. } | Op::Grad | Op::SetGrad => {
                    return Err(dangling("operation that a loop can repeat", index as u32));
                }
                Op::Constant(constant) if constant.index() >= self.constants.len() => return Err(dangling("constant", constant.0)),
                Op::Apply { function, .. } if function.index() >= self.functions.len() => return Err(dangling("function", function.0)),
                Op::Loop(nested) => self.check_body(id, inner, nested, depth + 1)?,
                Op::Item { index } => match body.node(inner.args[0]).map(|node| &node.op) {
                    Some(Op::Loop(nested)) if *index < nested.carried => {}
                    _ => return Err(dangling("value of a loop", *index as u32)),
                },
                _ => {}
            }
        }
        match body.gives.iter().chain(&body.condition).find(|given| given.index() >= end) {
            Some(missing) => Err(dangling("value that a loop gives", missing.0)),
            None => Ok(()),
        }
    }

    /// Checks that no constant holds NaN or an infinity.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the line that brought it in.
    pub fn check_constants(&self) -> Result<()> {
        for (id, node) in self.iter() {
            let Op::Constant(constant) = node.op else { continue };
            let tensor = &self.constants[constant.index()].tensor;
            if !tensor.dtype().is_float() || tensor.elem_count() == 0 {
                continue;
            }
            // A sum is finite exactly where every entry is, up to overflow, which is worth the same refusal.
            let sum = tensor.abs()?.to_dtype(candle_core::DType::F64)?.sum_all()?.to_scalar::<f64>()?;
            if !sum.is_finite() {
                return Err(Error::NotFinite { number: sum, source_line: self.source(id) });
            }
        }
        Ok(())
    }
}
