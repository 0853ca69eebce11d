//! The graph as text, one node a line. Stable: snapshot tests and diffs rely on it.

use std::fmt::{Display, Formatter, Result};

use super::{Graph, Node, NodeId, Op};

impl Display for NodeId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "graph {}", self.signature)?;
        for (index, invoke) in self.invokes.iter().enumerate() {
            let mut inputs = invoke.inputs.iter().map(ToString::to_string).collect::<Vec<_>>();
            if invoke.all_inputs {
                inputs.push("all inputs".to_string());
            }
            let rollout = invoke.rollout.as_ref().map(|rollout| format!(" and {rollout}"));
            writeln!(f, "  invoke {index}: {}{}", inputs.join(", "), rollout.unwrap_or_default())?;
        }
        for (id, node) in self.iter() {
            writeln!(f, "  {}", self.describe(id, node))?;
        }
        let saves = self.saves.iter().map(ToString::to_string).collect::<Vec<_>>();
        write!(f, "  save {}", saves.join(", "))
    }
}

impl Graph {
    /// What a node does, as a line of text.
    pub fn line(&self, id: NodeId) -> String {
        self.describe(id, self.node(id))
    }

    /// One node as a line of text.
    pub(super) fn describe(&self, id: NodeId, node: &Node) -> String {
        let args = node.args.iter().map(|&arg| self.operand(arg)).collect::<Vec<_>>().join(", ");
        let line = match &node.op {
            Op::Get { at, site } => format!("{id} = get {} of {at}", self.site(*site)),
            Op::Set { at, site, region, .. } => format!("set {}{region} of {at} = {args}", self.site(*site)),
            Op::Skip { at, site, .. } => format!("skip {} of {at} = {args}", self.site(*site)),
            Op::Stop { at, site } => format!("stop after {} of {at}", self.site(*site)),
            Op::Output { invoke } => format!("{id} = output of {}", invoke.0),
            Op::SetGrad => format!("set grad {args}"),
            Op::Constant(constant) => {
                let constant = &self.constants[constant.index()];
                format!("{id} = constant ({}) {:?}", constant.names.join(", "), constant.tensor.dims())
            }
            Op::Scalar(number) => format!("{id} = {number}"),
            Op::Reduce { axis, .. } => {
                let axis = axis.map_or("all".to_string(), |axis| axis.to_string());
                format!("{id} = {} {args} over {axis}", node.op.name())
            }
            Op::Softmax { axis, .. }
            | Op::CumSum { axis }
            | Op::Pick { axis }
            | Op::Gather { axis }
            | Op::Scatter { axis }
            | Op::IndexSelect { axis }
            | Op::Cat { axis } => {
                format!("{id} = {} {args} over {axis}", node.op.name())
            }
            Op::Permute { order, names } => format!("{id} = permute {args} by {order:?} to ({})", names.join(", ")),
            Op::Split { axis, into } => format!("{id} = split {args} over {axis} into ({}, {})", into[0].0, into[1].0),
            Op::Merge { axis, name } | Op::Rename { axis, name } => format!("{id} = {} {args} over {axis} to {name}", node.op.name()),
            Op::Slice(region) => format!("{id} = {args}{region}"),
            Op::Patch(region) => format!("{id} = patch {region} {args}"),
            _ => format!("{id} = {} {args}", node.op.name()),
        };
        let conditions = node.guards.iter().map(|guard| format!("if {} is {}: ", guard.condition, guard.when));
        conditions.collect::<String>() + &line
    }

    fn operand(&self, id: NodeId) -> String {
        match self.node(id).op {
            Op::Scalar(number) => number.to_string(),
            _ => id.to_string(),
        }
    }
}
