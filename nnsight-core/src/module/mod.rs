//! Modules: a model written in plain Rust, every part of which is a site.

mod cursor;
mod cx;
mod guest;
mod registrar;
mod table;

use candle_core::Tensor;
use nnsight_kernels::MaybeOwned;

pub use cursor::Cursor;
pub(crate) use cursor::MISSING;
pub use cx::{Cx, Place, Tap};
pub(crate) use cx::{Hook, Skipped};
pub(crate) use guest::Place as GuestPlace;
pub use guest::{Guest, Role};
pub use registrar::{From, Registrar};
pub use table::{ModuleInfo, SiteInfo, SiteTable};

use crate::Result;
use crate::graph::Axis;
use crate::types::{Dim, Signature};

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
    /// The checkpoint that it belongs to.
    type Signature: Signature;
    /// Its sites as a struct with the names of its fields.
    type Sites<'t>: Copy;
    /// The number of its sites, or `None` where it depends on the number of layers.
    const COUNT: Option<usize>;
    /// Writes its sites into a table.
    fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>);
    /// Makes the struct of its sites.
    fn sites<'t>(cursor: &mut Cursor<'t>) -> Self::Sites<'t>;
    /// Gives it and everything inside its place, `next` being the first free one.
    fn attach(&mut self, next: &mut usize);
    /// Its place.
    fn place(&self) -> Place;
    /// A module inside that can be applied by hand, by its path from here.
    fn find(&self, path: &str) -> Option<&dyn Forward>;
}

/// A module that treats every position by itself, and so can be applied by hand to a value of any shape that ends with its input's axis.
#[diagnostic::on_unimplemented(message = "`{Self}` mixes positions and cannot be applied by hand")]
pub trait Pointwise<C: Signature>: Forward {
    /// The innermost axis of what it takes.
    type In: Dim<C>;
    /// The innermost axis of what it gives.
    type Out: Dim<C>;
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
pub fn innermost<C: Signature, M: Pointwise<C>>() -> Option<(Axis, Axis)> {
    use crate::types::DimName;
    Some((Axis::new(M::In::NAME, M::In::SIZE), Axis::new(M::Out::NAME, M::Out::SIZE)))
}
