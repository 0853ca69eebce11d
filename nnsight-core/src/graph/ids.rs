//! Index newtypes: what points into which table of a graph.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);
        impl $name {
            /// As an index into its table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )+};
}

id!(
    /// A node of [`Graph::nodes`](super::Graph).
    NodeId,
    /// A path of [`Graph::sites`](super::Graph).
    SiteId,
    /// A prompt or group of prompts of [`Graph::invokes`](super::Graph).
    InvokeId,
    /// A tensor of [`Graph::constants`](super::Graph).
    ConstantId,
    /// A function of [`Graph::functions`](super::Graph).
    FunctionId,
    /// A place in the user's program, of [`Graph::sources`](super::Graph).
    SourceId,
);
