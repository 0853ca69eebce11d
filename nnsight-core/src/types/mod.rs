//! What the compiler knows of a value: the model it belongs to, its axes and its kind.

mod along;
mod dim;
mod kind;
mod saved;
mod scaled;
mod shape;
mod signature;
mod tensor;

pub use along::{Along, Numbered, named};
pub use dim::{Batch, Dim, DimName, Fits, Hole, IsBatch, IsNotBatch, One, Part, Ranked, Stacked};
pub use kind::{Bool, Float, Int, Kind, Number, Real, SameKind};
pub use saved::Saved;
pub(crate) use saved::differ;
pub use scaled::Scaled;
pub use shape::{
    Append, BroadcastFrom, EndsWith, Expand, ExpandedFrom, HasAxis, MatMul, MergeAxes, P0, P1, P2, P3, P4, PermuteTo, Prepend, ReplaceAxis, Shape,
    ShapeOf, SplitAxis, SwapAxes,
};
pub use signature::{Describes, Dynamic, HasLayer, SameModel, Signature, size_of_dim};
pub use tensor::Tensor;

pub use crate::graph::KindTag;
