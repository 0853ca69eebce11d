//! Tracing: a block of ordinary Rust becomes a graph.

mod assign;
mod condition;
mod index;
mod layers;
mod operand;
mod operators;
mod prompt;
mod save;
mod site;
mod traceable;
mod traced;
mod tracer;
mod value;

pub use assign::PlainAssign;
pub use condition::IntoCondition;
pub use index::Index;
pub use layers::{Layers, Literal, LiteralIndex};
pub use operand::{Choice, Operand, PlainNumber};
pub use prompt::IntoPrompts;
pub use save::{Results, Save};
pub use site::{Effect, Place, Site, SitePart, effect};
pub use traceable::{Traceable, graph, invoke, run, sites, tracer};
pub use traced::Traced;
pub use tracer::Tracer;
pub use value::{Value, cat, stack};
