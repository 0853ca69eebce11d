//! One attention head of a value, by its number.

use nnsight_core::trace::{Index, Site, SitePart, Value};
use nnsight_core::types::{HasAxis, Kind, Shape, Signature};

use crate::Heads;

/// Says that a shape has the axis of the attention heads, for `head(index)`.
#[diagnostic::on_unimplemented(
    message = "shape `{Self}` has no axis `Heads`",
    label = "no axis `Heads` here",
    note = "under grouped-query attention keys and values have the axis `KvHeads`: `k.at(KvHeads, index)`"
)]
pub trait HasHeads<I> {
    /// The shape without them.
    type Rest: Shape;
    /// Which axis they are.
    const POSITION: usize;
}
#[diagnostic::do_not_recommend]
impl<I, S: HasAxis<Heads, I>> HasHeads<I> for S {
    type Rest = S::Removed;
    const POSITION: usize = S::POSITION;
}

/// One attention head of a value or a site of shape `S`: `pattern.head(3)`.
pub trait ByHead<S>: Sized {
    /// The same of another shape.
    type WithShape<R: Shape>;

    /// One attention head; the same as `.at(Heads, index)`.
    ///
    /// # Shapes
    /// `S` without `Heads`
    #[must_use = "this computes a new value and changes nothing"]
    #[track_caller]
    fn head<I>(self, index: impl Index) -> Self::WithShape<S::Rest>
    where
        S: HasHeads<I>;
}

macro_rules! by_head {
    ($($named:ident -> $head:ident),+) => {$(
        impl<'t, C: Signature, S: Shape, K: Kind> ByHead<S> for $named<'t, C, S, K> {
            type WithShape<R: Shape> = $head<'t, C, R, K>;
            #[track_caller]
            fn head<I>(self, index: impl Index) -> $head<'t, C, S::Rest, K>
            where
                S: HasHeads<I>,
            {
                self.__entry(S::POSITION, index)
            }
        }
    )+};
}
by_head!(Value -> Value, Site -> SitePart, SitePart -> SitePart);
