//! Tracing: a block of ordinary Rust becomes a graph.

mod assign;
mod binding;
mod cache;
mod checkpoint;
mod condition;
mod cursor;
mod edit;
mod fingerprint;
mod gradient;
mod habits;
mod handle;
mod index;
mod interface;
mod label;
mod layers;
mod loops;
mod model_kind;
mod operand;
mod operators;
mod save;
mod scan;
mod selection;
mod site;
mod steps;
mod stop;
mod sweep;
mod traceable;
mod traced;
mod tracer;
mod value;

pub use assign::{PlainAdd, PlainAssign, PlainDiv, PlainMul, PlainSub};
pub use binding::{Bind, BindsLent, BindsOther, BindsPlace, BindsPlain, Borrowed, Itself, Lent, OfTheModel, PlainPlace, PlainRead, Probe};
pub use cache::{Cache, Caching, Keep, View};
pub use condition::{IntoCondition, MatchNumber, WhileCondition};
pub use cursor::Cursor;
pub use edit::{Edit, Edited, Edits};
pub use fingerprint::Fingerprint;
pub use gradient::{Gradient, LossShape};
pub use handle::{ModuleHandle, SiteList};
pub use index::Index;
pub use interface::Interface;
pub use label::labelled;
pub use layers::{Layers, PlainList};
pub use loops::{Carried, ContinueIf, Round, fold, while_loop};
#[allow(deprecated)]
pub use loops::{GoOnIf, repeat_while};
pub use model_kind::{ModelKind, Reads, Settings};
pub use operand::{Assigned, Choice, NumberFor, Operand};
pub use save::{Results, Save};
pub use scan::Scan;
pub use selection::{Indices, Masked, Selected};
pub use site::{Effect, Place, Site, SitePart, effect};
pub use steps::{Generating, Step, StepList, Steps};
pub use sweep::{Over, PointValue, Points, Sizes, SweptShape, axes, grid2, grid3, points, sweep, swept};
pub use traceable::{
    Traceable, all_inputs, all_inputs_generating, default_settings, edit, generating, graph, invoke, point, run, scan, sites, stream, sweep_on,
    template, tracer,
};
#[allow(deprecated)]
pub use traceable::{everything, everything_generating};
pub use traced::Traced;
pub use tracer::Tracer;
pub use value::{Value, cat, stack};
