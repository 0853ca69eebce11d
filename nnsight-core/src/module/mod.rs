//! Modules: a model written in plain Rust, every part of which is a site.

mod attach;
mod attachment;
mod cx;
mod forward;
mod instrument;
mod of;
mod state;

pub use attach::{Attach, Attached, NetworkWithAttachment, SitesWithAttachment};
pub(crate) use attachment::AttachmentRole;
pub use attachment::{Attachment, Role};
pub use cx::{Cx, Place, Tap};
pub(crate) use cx::{Hook, Skipped};
pub use forward::{Forward, Pointwise, innermost};
pub use instrument::{BelongsTo, Instrument};
pub use of::Of;
pub use state::{ModuleState, States};

pub use crate::sites::{DependsOn, Mixing, ModuleInfo, Registrar, SiteInfo, SiteTable};
pub use crate::trace::{Cursor, Interface};
