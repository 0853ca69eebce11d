//! What a model is as data: its sites, in which order a forward pass reaches them, and which depends on which.

mod describe;
mod mixing;
mod registrar;
mod table;

pub use describe::Describe;
pub use mixing::Mixing;
pub use registrar::{Count, DependsOn, ListRole, Registrar};
pub use table::{ModuleInfo, SiteInfo, SiteTable};
