//! Repeating the body of a loop.

use candle_core::Tensor;

use super::evaluate::Datum;
use super::interleave::Interleaver;
use super::rounding::evaluate;
use crate::graph::{Body, Inferred, Node, NodeId, Op, Source};
use crate::observer::Note;
use crate::{Error, Result};

impl Interleaver<'_> {
    /// Runs a loop; gives what it carries at the end.
    pub(super) fn repeat(&mut self, body: &Body, args: Vec<Datum>, inside: &Inferred, source_line: &Option<Source>) -> Result<Vec<Datum>> {
        let mut args = args;
        let shapes = args[..body.loop_carried].iter().map(|carried| self.shape(carried)).collect::<Result<Vec<_>>>()?;
        let rows = body.over.map(|axis| Ok::<_, Error>((self.precision.tensor(&args[body.loop_carried])?, axis))).transpose()?;
        let depth = self.depths.above(args.get(body.loop_carried).filter(|_| rows.is_some()));
        let rounds = match &rows {
            Some((rows, axis)) => rows.dim(*axis)?,
            None => usize::MAX,
        };
        for round in 0..rounds {
            if round >= body.limit as usize {
                return Err(Error::Endless { limit: body.limit, source_line: source_line.clone() });
            }
            // Rounds over rows were counted before the run.
            if rows.is_none() {
                self.meter.round(inside, body.parameters(), source_line)?;
            }
            if let Some((rows, axis)) = &rows {
                args[body.loop_carried] = self.bounded(depth, Datum::Tensor(rows.narrow(*axis, round, 1)?.squeeze(*axis)?))?;
            }
            let (given, goes_on) = self.round(body, &args, inside, source_line)?;
            match given {
                Some(given) => {
                    self.check_shapes(&shapes, &given, source_line)?;
                    args.splice(..body.loop_carried, given).for_each(drop);
                }
                None => break,
            }
            if !goes_on {
                break;
            }
        }
        args.truncate(body.loop_carried);
        Ok(args)
    }

    fn shape(&self, datum: &Datum) -> Result<Vec<usize>> {
        match datum {
            Datum::Tensor(tensor) => Ok(tensor.dims().to_vec()),
            Datum::Number(_) => Ok(Vec::new()),
            Datum::Fused(_) | Datum::Several(_) => Ok(self.precision.tensor(datum)?.dims().to_vec()),
        }
    }

    /// Refuses a round that changes a shape, where that was not known before.
    fn check_shapes(&self, before: &[Vec<usize>], given: &[Datum], source_line: &Option<Source>) -> Result<()> {
        for (before, given) in before.iter().zip(given) {
            let after = self.shape(given)?;
            if *before != after {
                let problem = format!("a round makes {after:?} of {before:?}; what is carried on must keep its shape");
                return Err(Error::Mismatch { op: "loop".to_string(), problem, source_line: source_line.clone() });
            }
        }
        Ok(())
    }

    /// One round: what it carries on, or `None` where the condition does not hold any more; and whether another follows.
    fn round(&mut self, body: &Body, args: &[Datum], inside: &Inferred, source_line: &Option<Source>) -> Result<(Option<Vec<Datum>>, bool)> {
        let mut values = args.iter().cloned().map(Some).collect::<Vec<_>>();
        let checks_first = body.over.is_none();
        // The condition of a `while` is looked at before the rest of the round.
        let before = body.condition.filter(|_| checks_first).map_or(0, |condition| (condition.index() + 1).saturating_sub(args.len()));
        for (index, node) in body.nodes.iter().enumerate() {
            if index == before && !self.holds(body, checks_first, &values, source_line)? {
                return Ok((None, false));
            }
            let value = self.step(node, &values, inside, source_line)?;
            values.push(value);
        }
        if before >= body.nodes.len() && !self.holds(body, checks_first, &values, source_line)? {
            return Ok((None, false));
        }
        let goes_on = checks_first || body.condition.map_or(Ok(true), |condition| truth(&values, condition, source_line))?;
        let missing = || Error::OutsideBranch { source_line: source_line.clone() };
        let given = body.yields.iter().map(|given| values[given.index()].clone().ok_or_else(missing));
        Ok((Some(given.collect::<Result<_>>()?), goes_on))
    }

    /// Whether the condition of a `while` holds.
    fn holds(&self, body: &Body, checks_first: bool, values: &[Option<Datum>], source_line: &Option<Source>) -> Result<bool> {
        match body.condition.filter(|_| checks_first) {
            Some(condition) => truth(values, condition, source_line),
            None => Ok(true),
        }
    }

    /// Runs one node of a body, where the branches that it stands in are.
    fn step(&mut self, node: &Node, values: &[Option<Datum>], inside: &Inferred, source_line: &Option<Source>) -> Result<Option<Datum>> {
        for guard in &node.guards {
            if values[guard.condition.index()].is_none() || truth(values, guard.condition, source_line)? != guard.when {
                return Ok(None);
            }
        }
        let missing = || Error::OutsideBranch { source_line: source_line.clone() };
        let get = |id: NodeId| values[id.index()].as_ref().ok_or_else(missing);
        let failed =
            |problem: candle_core::Error| Error::Compute { op: node.op.name(), problem: Box::new(problem), source_line: source_line.clone() };
        if let Op::Choose = node.op {
            let chosen = if truth(values, node.args[0], source_line)? { node.args[1] } else { node.args[2] };
            return get(chosen).cloned().map(Some);
        }
        let args = node.args.iter().map(|&arg| get(arg)).collect::<Result<Vec<_>>>()?;
        let id = NodeId(values.len() as u32);
        let value = match &node.op {
            Op::Loop(nested) => {
                let inside = inside.bodies.get(&id).ok_or_else(missing)?;
                Datum::Several(self.repeat(nested, args.iter().map(|&arg| arg.clone()).collect(), inside, source_line)?)
            }
            Op::Constant(constant) => Datum::Tensor(self.load(constant.index()).map_err(failed)?),
            Op::Call { module } => Datum::Tensor(self.call(module, &self.precision.tensor(args[0])?, source_line)?),
            op => evaluate(op, &args, &self.graph.functions, self.precision, &inside.facts[id.index()]).map_err(failed)?,
        };
        if let Op::Log { label } = &node.op {
            self.note(Note::logged(label, self.precision.tensor(&value)?, source_line.clone()));
        }
        let depth = self.depths.above(args);
        self.bounded(depth, value).map_err(failed).map(Some)
    }
}

fn truth(values: &[Option<Datum>], condition: NodeId, source_line: &Option<Source>) -> Result<bool> {
    match &values[condition.index()] {
        Some(Datum::Number(number)) => Ok(*number != 0.0),
        Some(Datum::Tensor(tensor)) => Ok(first_is_true(tensor)?),
        Some(Datum::Fused(chain)) => Ok(first_is_true(&chain.compute()?)?),
        Some(Datum::Several(_)) | None => Err(Error::OutsideBranch { source_line: source_line.clone() }),
    }
}

/// Whether the first entry of a boolean tensor is true.
pub(super) fn first_is_true(tensor: &Tensor) -> candle_core::Result<bool> {
    Ok(tensor.flatten_all()?.get(0)?.to_scalar::<u8>()? != 0)
}
