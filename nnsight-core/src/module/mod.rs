//! Modules: a model written in plain Rust, every part of which is a site.

mod attach;
mod attachment;
mod cx;
mod of;

use candle_core::Tensor;
use nnsight_kernels::MaybeOwned;

pub use attach::{Attach, Attached, NetworkWithAttachment, SitesWithAttachment};
pub(crate) use attachment::AttachmentRole;
pub use attachment::{Attachment, Role};
pub use cx::{Cx, Place, Tap};
pub(crate) use cx::{Hook, Skipped};
pub use of::Of;

use crate::Result;
use crate::graph::Axis;
use crate::sites::Describe;
pub use crate::sites::{DependsOn, ModuleInfo, Registrar, SiteInfo, SiteTable};
pub use crate::trace::{Cursor, Interface};
use crate::types::{DimName, Signature};

/// What a module computes. Inside, submodules are called through the context: `cx.call(&self.mlp, &x)?`.
pub trait Forward {
    /// Runs the module.
    ///
    /// # Errors
    /// What a computation or an intervention fails with.
    fn forward(&self, input: &Tensor, cx: &mut Cx) -> Result<Tensor>;

    /// As [`Forward::forward`], for a caller that overwrites the result if nobody else holds it. A module that ends with a kernel passes on
    /// whether its result is owned; of others it is not.
    ///
    /// # Errors
    /// As [`Forward::forward`].
    fn forward_owned(&self, input: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        self.forward(input, cx).map(MaybeOwned::shared)
    }
}

/// What the rest of the library needs to know of a module. Written by `derive(Module)`.
pub trait Instrument: 'static {
    /// Its sites as a struct with the names of its fields, typed by a checkpoint.
    type Sites<'t, C: Signature>: Copy;
    /// The number of its sites, or `None` where it depends on the number of layers.
    const COUNT: Option<usize>;
    /// Writes its sites into a table.
    fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>);
    /// Makes the struct of its sites.
    fn sites<'t, C: Signature>(cursor: &mut Cursor<'t>) -> Self::Sites<'t, C>;
    /// Gives it and everything inside its place, `next` being the first free one.
    fn attach(&mut self, next: &mut usize);
    /// Its place.
    fn place(&self) -> Place;
    /// A module inside that can be applied by hand, by its path from here.
    fn find(&self, path: &str) -> Option<&dyn Forward>;
}

impl<M: Instrument> Describe for M {
    fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>) {
        <M as Instrument>::describe(registrar, path, pointwise);
    }
}

/// Says that a module can be attached to a model of the checkpoint `C`. Written by `derive(Module)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a module of another checkpoint than `{C}`",
    label = "not a module of `{C}`",
    note = "what a module was trained on means something else in another model; a module without a type parameter for its signature fits all"
)]
pub trait BelongsTo<C>: Instrument {}

/// A module that treats every position by itself, and so can be applied by hand to a value of any shape that ends with its input's axis.
#[diagnostic::on_unimplemented(message = "`{Self}` mixes positions and cannot be applied by hand")]
pub trait Pointwise: Forward {
    /// The innermost axis of its input.
    type In: DimName;
    /// The innermost axis of its output.
    type Out: DimName;
}

impl Place {
    /// The first site of the module, where the model has been put together.
    pub fn first(&self) -> Option<usize> {
        self.sites.map(|(first, _)| first)
    }

    /// The place of a module whose sites are `first..next`. `derive(Module)` calls it.
    #[doc(hidden)]
    pub fn spanning(first: usize, next: usize) -> Self {
        Place { sites: Some((first, next - 1)) }
    }
}

/// The innermost axes of a pointwise module.
#[doc(hidden)]
pub fn innermost<M: Pointwise>() -> Option<(Axis, Axis)> {
    Some((Axis::new(M::In::NAME, M::In::FIXED), Axis::new(M::Out::NAME, M::Out::FIXED)))
}
