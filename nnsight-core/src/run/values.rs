//! The values of a run: computing nodes, keeping what they give for as long as somebody needs it, and why some never come into being.

use std::collections::HashSet;

use candle_core::{D, Tensor};
use nnsight_kernels as kernels;

use super::evaluate::{Datum, chain};
use super::interleave::Interleaver;
use super::loops::first_is_true;
use super::rounding::evaluate;
use crate::batch::NoInputs;
use crate::graph::{InvokeId, KindTag, NodeId, Op, Source, Unreached};
use crate::module::Cx;
use crate::observer::Note;
use crate::plan::without_what_is_behind;
use crate::{Error, Result};

/// Why a value never came into being.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unavailable {
    /// The visit to the model that did not take place.
    pub visit: NodeId,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// The run ended after so many steps.
    Ended(usize),
    /// The run of the invoke was stopped at this node.
    Stopped(NodeId),
}

impl Interleaver<'_> {
    /// The values to give back, or why there is none.
    pub fn results(mut self) -> Result<Vec<Result<Tensor>>> {
        let graph = self.graph;
        let results = graph.saves.iter().map(|&save| match (self.take(save), self.unavailable.get(&save)) {
            (Some(datum), _) => Ok(Ok(self.precision.tensor(&datum)?.contiguous()?.detach())),
            (None, Some(unavailable)) => Ok(Err(self.why(*unavailable))),
            (None, None) => Ok(Err(Error::OutsideBranch { source_line: graph.source(save) })),
        });
        results.collect()
    }

    /// A value to give back, by its place among them, where it is there.
    pub fn saved(&self, place: usize) -> Result<Option<Tensor>> {
        match &self.values[self.graph.saves[place].index()] {
            Some(datum) => Ok(Some(self.precision.tensor(datum)?.contiguous()?.detach())),
            None => Ok(None),
        }
    }

    fn why(&self, Unavailable { visit, cause }: Unavailable) -> Error {
        let source_line = self.graph.source(visit);
        let (step, named) = (self.touches(visit).map_or(0, |(_, step)| step), self.unreached(visit) == Unreached::Refuse);
        let reached = match cause {
            Cause::Ended(reached) => reached,
            Cause::Stopped(stop) => {
                let last = self.touches(stop).map_or(0, |(_, step)| step);
                if named || step <= last {
                    return Error::AfterStop { stopped: self.graph.source(stop), source_line };
                }
                last as usize + 1
            }
        };
        Error::StepNotReached { step, reached, named, source_line }
    }

    /// Notes that a value never comes into being.
    pub(super) fn mark_unavailable(&mut self, id: NodeId, unavailable: Unavailable) {
        self.unavailable.insert(id, unavailable);
        self.release(id);
    }

    /// Why a node cannot be run, where something that it needs never came into being.
    pub(super) fn unavailable_input(&self, id: NodeId) -> Option<Unavailable> {
        if self.unavailable.is_empty() && self.stopped.is_empty() {
            return None;
        }
        if let Some((invoke, _)) = self.touches(id)
            && let Some(&stop) = self.stopped.get(&invoke)
        {
            return Some(Unavailable { visit: id, cause: Cause::Stopped(stop) });
        }
        let node = self.graph.node(id);
        let mut conditions = node.guards.iter().map(|guard| &guard.condition);
        if let Some(unavailable) = conditions.find_map(|condition| self.unavailable.get(condition)) {
            return Some(*unavailable);
        }
        match node.op {
            // Of a choice only the condition is needed for sure.
            Op::Choose => self.unavailable.get(&node.args[0]).copied(),
            _ => node.args.iter().find_map(|arg| self.unavailable.get(arg)).copied(),
        }
    }

    /// Runs a node that needs no site.
    pub(super) fn run(&mut self, id: NodeId) -> Result<()> {
        if let Some(unavailable) = self.unavailable_input(id) {
            self.mark_unavailable(id, unavailable);
            return Ok(());
        }
        if !self.is_active(id)? {
            return Ok(());
        }
        let graph = self.graph;
        let node = graph.node(id);
        let datum = match &node.op {
            Op::Choose => {
                let chosen = if self.truth(node.args[0])? { node.args[1] } else { node.args[2] };
                if let Some(&unavailable) = self.unavailable.get(&chosen) {
                    self.mark_unavailable(id, unavailable);
                    return Ok(());
                }
                self.datum(chosen, id)?.clone()
            }
            Op::Constant(constant) => Datum::Tensor(self.constant(constant.index()).map_err(|error| self.compute_error(id, error))?),
            Op::Call { module } => {
                let input = self.precision.tensor(self.datum(node.args[0], id)?)?;
                Datum::Tensor(self.call(module, &input, &graph.source(id))?)
            }
            Op::Loop(body) => {
                let args = node.args.iter().map(|&arg| self.datum(arg, id).cloned()).collect::<Result<Vec<_>>>()?;
                let inside = self.inferred.bodies.get(&id).ok_or_else(|| Error::OutsideBranch { source_line: graph.source(id) })?;
                Datum::Several(self.repeat(body, args, inside, &graph.source(id))?)
            }
            Op::Output { invoke } => Datum::Tensor(self.rolled_out(*invoke)?),
            Op::Grad => Datum::Tensor(self.gradient(id)?),
            Op::SetGrad => return self.set_gradient(id),
            op => {
                let moved = match op {
                    Op::Slice(region) => self.cut.get(&node.args[0]).map(|&(axis, behind)| Op::Slice(without_what_is_behind(region, axis, behind))),
                    _ => None,
                };
                let op = moved.as_ref().unwrap_or(op);
                let args = node.args.iter().map(|&arg| self.datum(arg, id)).collect::<Result<Vec<_>>>()?;
                let is_next = self.fused[id.index()] || args.iter().any(|arg| matches!(arg, Datum::Fused(_)));
                let datum = match is_next.then(|| chain(op, &args)).flatten() {
                    Some(chain) if self.fused[id.index()] => Ok(Datum::Fused(chain)),
                    Some(chain) => chain.compute().map(Datum::Tensor),
                    None => evaluate(op, &args, &graph.functions, self.precision, &self.inferred.facts[id.index()]),
                };
                let datum = datum.map_err(|error| self.compute_error(id, error))?;
                if let Op::Log { label } = op {
                    let label = if label.is_empty() { node.args[0].to_string() } else { label.clone() };
                    self.note(Note::logged(&label, self.precision.tensor(&datum)?, graph.source(id)));
                }
                datum
            }
        };
        let depth = self.depths.above(node.args.iter().filter_map(|arg| self.values[arg.index()].as_ref()));
        let datum = match self.with_gradient[id.index()] {
            false => self.bounded(depth, datum).map_err(|error| self.compute_error(id, error))?,
            true => Datum::Tensor(self.gradients.cut(id, &self.precision.tensor(&datum)?, Vec::new())?),
        };
        self.keep(id, datum);
        Ok(())
    }

    /// Runs what comes behind a pass. A module that is applied to many values, one after the other in the list, is applied to all of them at
    /// once: it treats every position by itself.
    pub(super) fn run_behind(&mut self, nodes: &[NodeId]) -> Result<()> {
        let mut rest = nodes;
        while let Some((&id, others)) = rest.split_first() {
            let Op::Call { module } = &self.graph.node(id).op else {
                self.run(id)?;
                rest = others;
                continue;
            };
            let alike = |id: &NodeId| matches!(&self.graph.node(*id).op, Op::Call { module: other } if other == module);
            let mut together = HashSet::new();
            // One that is applied to what another returns has to wait for that.
            let waits = |id: &NodeId, together: &HashSet<NodeId>| self.graph.node(*id).uses().any(|used| together.contains(&used));
            let count = rest.iter().take_while(|id| alike(id) && !waits(id, &together) && together.insert(**id)).count();
            let (calls, behind) = rest.split_at(count);
            let mut inputs = Vec::with_capacity(calls.len());
            for &id in calls {
                if calls.len() == 1
                    || self.unavailable_input(id).is_some()
                    || !self.graph.node(id).guards.is_empty()
                    || self.with_gradient[id.index()]
                {
                    self.run(id)?;
                    continue;
                }
                inputs.push((id, self.precision.tensor(self.datum(self.graph.node(id).args[0], id)?)?));
            }
            self.apply_together(module, inputs)?;
            rest = behind;
        }
        Ok(())
    }

    fn apply_together(&mut self, module: &str, inputs: Vec<(NodeId, Tensor)>) -> Result<()> {
        let Some((first, _)) = inputs.first() else { return Ok(()) };
        let source = self.graph.source(*first);
        // A single vector is one of many.
        let flat = inputs.iter().map(|(_, input)| {
            let last = input.dim(D::Minus1)?;
            input.reshape((input.elem_count() / last.max(1), last))
        });
        let all = Tensor::cat(&flat.collect::<candle_core::Result<Vec<_>>>()?, 0)?.unsqueeze(0)?;
        let results = self.call(module, &all, &source)?.squeeze(0)?;
        let mut start = 0;
        for (id, input) in inputs {
            let mut dims = input.dims().to_vec();
            let rows = dims.pop().map_or(1, |last| input.elem_count() / last.max(1));
            dims.push(results.dim(1)?);
            let result = results.narrow(0, start, rows)?.reshape(dims)?;
            start += rows;
            self.keep(id, Datum::Tensor(result));
        }
        Ok(())
    }

    /// Puts a value through a module by hand.
    pub(super) fn call(&self, module: &str, input: &Tensor, source_line: &Option<Source>) -> Result<Tensor> {
        let missing = || Error::NoModule { path: module.to_string(), suggestion: String::new(), source_line: source_line.clone() };
        let found = self.model.find(module).ok_or_else(missing)?;
        found.forward(&input.contiguous()?, &mut Cx::untouched(&NoInputs))
    }

    /// What came out of the rollout of an invoke.
    fn rolled_out(&self, invoke: InvokeId) -> Result<Tensor> {
        match self.outputs.get(&invoke) {
            Some(output) => Ok(output.value.clone()),
            None => Err(Error::Rollout { problem: "nothing came out of it: it was not run".into(), source_line: None }),
        }
    }

    fn gradient(&mut self, id: NodeId) -> Result<Tensor> {
        let (of, loss) = (self.graph.node(id).args[0], self.graph.node(id).args[1]);
        let value = self.loss(loss, id)?;
        let gradient = self.gradients.get(of, loss, &value)?.ok_or_else(|| self.no_gradient(id))?;
        self.check_finite("gradient", &gradient, id)?;
        Ok(gradient)
    }

    /// The value of a loss, for a node that asks for its gradient.
    fn loss(&self, loss: NodeId, id: NodeId) -> Result<Tensor> {
        let value = self.precision.tensor(self.datum(loss, id)?)?;
        self.check_finite("loss", &value, loss)?;
        Ok(value)
    }

    /// Refuses a loss or a gradient that 16 bits cannot hold: everything that is computed of it would be NaN.
    fn check_finite(&self, what: &'static str, value: &Tensor, id: NodeId) -> Result<()> {
        let dtype = value.dtype();
        match kernels::is_half(dtype) && !kernels::is_finite(value)? {
            false => Ok(()),
            true => Err(Error::Overflow { what, dtype: dtype.as_str(), largest: kernels::largest(dtype), source_line: self.graph.source(id) }),
        }
    }

    fn set_gradient(&mut self, id: NodeId) -> Result<()> {
        let args = &self.graph.node(id).args;
        let (of, loss) = (args[0], args[1]);
        let (value, new) = (self.loss(loss, id)?, self.precision.tensor(self.datum(args[2], id)?)?);
        if !self.gradients.set(of, loss, &value, &new)? {
            return Err(self.no_gradient(id));
        }
        self.release(id);
        Ok(())
    }

    fn no_gradient(&self, id: NodeId) -> Error {
        let reason = "in this run the loss did not depend on this value".to_string();
        Error::NoGradient { reason, source_line: self.graph.source(id) }
    }

    pub(super) fn compute_error(&self, id: NodeId, problem: candle_core::Error) -> Error {
        Error::Compute { op: self.graph.node(id).op.name(), problem: Box::new(problem), source_line: self.graph.source(id) }
    }

    /// Whether the branch that a node stands in is the one that is run. Where it is not, the node's arguments are let go.
    pub(super) fn is_active(&mut self, id: NodeId) -> Result<bool> {
        let graph = self.graph;
        for guard in &graph.node(id).guards {
            // The condition of an inner branch has no value where the outer one is not run.
            let met = self.values[guard.condition.index()].is_some() && self.truth(guard.condition)? == guard.when;
            if !met {
                self.release(id);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn truth(&self, condition: NodeId) -> Result<bool> {
        match self.datum(condition, condition)? {
            Datum::Number(number) => Ok(*number != 0.0),
            Datum::Tensor(tensor) => Ok(first_is_true(tensor)?),
            Datum::Fused(chain) => Ok(first_is_true(&chain.compute()?)?),
            Datum::Several(_) => Ok(false),
        }
    }

    pub(super) fn datum(&self, id: NodeId, user: NodeId) -> Result<&Datum> {
        self.values[id.index()].as_ref().ok_or_else(|| Error::OutsideBranch { source_line: self.graph.source(user) })
    }

    /// Keeps a value for those that use it, and lets its arguments go.
    pub(super) fn keep(&mut self, id: NodeId, datum: Datum) {
        self.release(id);
        if self.uses[id.index()] > 0 {
            self.values[id.index()] = Some(datum);
        }
    }

    pub(super) fn release(&mut self, id: NodeId) {
        let graph = self.graph;
        let node = graph.node(id);
        for &arg in node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)) {
            let uses = &mut self.uses[arg.index()];
            *uses -= 1;
            if *uses == 0 {
                self.values[arg.index()] = None;
            }
        }
    }

    fn take(&mut self, id: NodeId) -> Option<Datum> {
        let uses = &mut self.uses[id.index()];
        *uses -= 1;
        if *uses == 0 { self.values[id.index()].take() } else { self.values[id.index()].clone() }
    }

    pub(super) fn constant(&mut self, index: usize) -> candle_core::Result<Tensor> {
        if let Some(tensor) = &self.constants[index] {
            return Ok(tensor.clone());
        }
        let tensor = self.load(index)?;
        self.constants[index] = Some(tensor.clone());
        Ok(tensor)
    }

    /// A constant where and in the type in which the model computes.
    pub(super) fn load(&self, index: usize) -> candle_core::Result<Tensor> {
        let tensor = self.graph.constants[index].tensor.to_device(self.precision.device)?;
        match crate::graph::kind_of(tensor.dtype()) {
            KindTag::Float => kernels::saturate(&tensor, self.precision.dtype),
            KindTag::Int => tensor.to_dtype(candle_core::DType::I64),
            // Any number but 0 is true, and one that is not 1 would be multiplied by others.
            KindTag::Bool => tensor.ne(0u8),
        }
    }
}
