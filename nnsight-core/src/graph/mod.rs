//! The graph: an intervention as data, which can be checked, optimised, drawn, stored, sent, and run inside a forward pass.

mod arithmetic;
mod at;
mod axes;
mod axis;
mod body;
mod constant;
mod cost;
mod draw;
mod extents;
mod function;
mod ids;
mod indices;
mod infer;
mod inferred;
mod input;
mod kind_tag;
mod kinds;
mod limits;
mod names;
mod op;
mod operation;
mod region;
mod role;
mod rollout;
mod serial;
mod text;
mod validate;
mod version2;
mod visited;

use serde::{Deserialize, Serialize};

pub use arithmetic::{Binary, Compare, Logic, Reduce, Unary};
pub use at::{At, Unreached, Unused};
pub use axis::{Axis, Facts};
pub use body::Body;
pub use constant::Constant;
pub(crate) use cost::CUMSUM_BLOCK;
pub(crate) use extents::{Extents, Mixing, Outline, extents};
pub use function::Function;
pub use ids::{ConstantId, FunctionId, InvokeId, NodeId, SiteId, SourceId};
pub use infer::{Environment, infer};
pub use inferred::Inferred;
pub(crate) use input::Comparable;
pub use input::{Input, InputPart};
pub use kind_tag::KindTag;
pub(crate) use kind_tag::kind_of;
pub use limits::Limits;
pub use names::printable;
pub use op::Op;
pub(crate) use operation::suggest as suggest_operation;
pub use operation::{Operation, operation, register};
pub use region::{Region, Span, Step};
pub use role::AxisRole;
pub use rollout::{Output, Rollout};
pub use serial::VERSION;
pub use validate::not_finite;
pub(crate) use visited::Visited;

pub use crate::error::Source;

/// An experiment on one model: on which inputs it runs, what it does where, and what it returns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The name of the model's signature.
    pub signature: String,
    /// What the model is run on.
    #[serde(deserialize_with = "serial::bounded")]
    pub invokes: Vec<Invoke>,
    /// The paths of the sites in use.
    #[serde(deserialize_with = "serial::bounded")]
    pub sites: Vec<String>,
    /// Tensors from outside.
    #[serde(deserialize_with = "serial::bounded")]
    pub constants: Vec<Constant>,
    /// Functions of this program.
    #[serde(default, skip_deserializing, skip_serializing_if = "Vec::is_empty", serialize_with = "function::refuse")]
    pub functions: Vec<Function>,
    /// What is done; a node's arguments stand before it.
    #[serde(deserialize_with = "serial::bounded")]
    pub nodes: Vec<Node>,
    /// The values to give back, in order.
    #[serde(deserialize_with = "serial::bounded")]
    pub saves: Vec<NodeId>,
    /// Where in the user's program the nodes come from.
    #[serde(deserialize_with = "serial::bounded")]
    pub sources: Vec<Source>,
}

/// One step of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// With which values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<NodeId>,
    /// In which branches of conditions it stands, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard>,
    /// Where in the user's program.
    pub source: SourceId,
}

/// A branch of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The boolean.
    pub condition: NodeId,
    /// Which value of it leads here.
    pub when: bool,
}

/// What one invoke runs the model on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "version2::Written")]
pub struct Invoke {
    /// Its inputs, one row of the batch each.
    pub inputs: Vec<Input>,
    /// Whether it has no inputs of its own, and sees those of all other invokes side by side.
    #[serde(rename = "everything", default, skip_serializing_if = "std::ops::Not::not")]
    pub all_inputs: bool,
    /// How to go on after the first pass, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Where in the user's program its inputs are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl Node {
    /// What it uses: its arguments, and the conditions of the branches that it is in.
    pub(crate) fn uses(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.args.iter().copied().chain(self.guards.iter().map(|guard| guard.condition))
    }
}

impl Invoke {
    /// How many passes there are at most.
    pub fn steps(&self) -> usize {
        self.rollout.as_ref().map_or(1, |rollout| rollout.steps.max(1))
    }
}

impl Graph {
    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The path of a site.
    pub fn site(&self, id: SiteId) -> &str {
        &self.sites[id.index()]
    }

    /// Whether an invoke sees the inputs of all others.
    pub(crate) fn sees_all(&self, invoke: InvokeId) -> bool {
        self.invokes.get(invoke.index()).is_some_and(|invoke| invoke.all_inputs)
    }

    /// Whether two invokes are about some of the same inputs.
    pub(crate) fn share_rows(&self, a: InvokeId, b: InvokeId) -> bool {
        a == b || self.sees_all(a) || self.sees_all(b)
    }

    /// Where in the user's program a node comes from, if it comes from one.
    pub fn source(&self, id: NodeId) -> Option<Source> {
        self.sources.get(self.node(id).source.index()).filter(|source| source.line > 0).cloned()
    }

    /// All nodes with their ids, arguments first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + ExactSizeIterator {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index as u32), node))
    }
}
