//! What a loop repeats while the graph runs.

use serde::{Deserialize, Serialize};

use super::{Node, NodeId, Op};

/// The body of a loop. Its ids are its own: first the parameters (what is carried from one round to the next, the row where the loop goes
/// over some, what it uses from outside), then its nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// How many values are carried from one round to the next. They are the loop's first arguments.
    #[serde(rename = "carried")]
    pub loop_carried: usize,
    /// Along which axis the loop goes over the argument behind the carried ones, or `None` where it goes on while a condition holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<usize>,
    /// How many values come from outside, behind those.
    pub captured: usize,
    /// What is done in each round.
    pub nodes: Vec<Node>,
    /// While this is true, another round begins. Where the loop goes over rows, none begins after a round in which it was false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<NodeId>,
    /// The carried values after a round.
    #[serde(rename = "gives")]
    pub yields: Vec<NodeId>,
    /// More rounds than this are an error.
    pub limit: u32,
}

impl Body {
    /// The most rounds of a loop that is recorded: one that never ends is a mistake.
    pub const ROUNDS: u32 = 100_000;

    /// The number of parameters.
    pub fn parameters(&self) -> usize {
        self.loop_carried + usize::from(self.over.is_some()) + self.captured
    }

    /// A node by an id of the body, or `None` for a parameter.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index().checked_sub(self.parameters())?)
    }
}

impl Drop for Body {
    /// Bodies within each other are dropped one after the other: the stack ends before what somebody may send does.
    fn drop(&mut self) {
        let mut open = std::mem::take(&mut self.nodes);
        while let Some(mut node) = open.pop() {
            if let Op::Loop(body) = &mut node.op {
                open.append(&mut body.nodes);
            }
        }
    }
}
