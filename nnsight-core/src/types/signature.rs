//! Signatures: the constants of one checkpoint, known to the compiler.

use super::{DimName, IsNotBatch, ModelDim, Unchecked};

/// A type for one checkpoint. Written by `signature!`.
pub trait Signature: Copy + Default + Send + Sync + 'static {
    /// The type's name.
    const NAME: &'static str;
    /// The sizes of dimensions by their names, or `None` where they are known only when the model is loaded.
    const SIZES: Option<&'static [(&'static str, usize)]>;
}

/// The size of a dimension among those of a signature.
#[doc(hidden)]
pub const fn size_of_dim(sizes: Option<&[(&str, usize)]>, dim: &str) -> Option<usize> {
    let Some(sizes) = sizes else { return None };
    let mut index = 0;
    while index < sizes.len() {
        if equal(sizes[index].0.as_bytes(), dim.as_bytes()) {
            return Some(sizes[index].1);
        }
        index += 1;
    }
    None
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// The length of a list of modules that does not say another: the number of a model's layers, which is the size `Layers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllLayers;
impl DimName for AllLayers {
    const NAME: &'static str = "Layers";
    type Batched = IsNotBatch;
    type Listed = AllLayers;
}
impl ModelDim for AllLayers {}

/// Says that a model's list of the length `L` has the entry `I`; negative ones count from the end. Without `L`, the list is that of the layers.
/// `signature!` writes it for every list whose length it knows: the layers, and the experts of a layer.
///
/// There is an implementation for every index, and not one that compares it with the length: the compiler compares numbers of types only when it
/// generates code, which `cargo check` does not do, and a function for all `C: HasLayer<9>` could not say so.
#[diagnostic::on_unimplemented(
    message = "model `{Self}` has no layer {I} in its list of `{L}`",
    label = "no {I} among the `{L}` of `{Self}`",
    note = "a list counts from 0, or from the end with -1 for the last"
)]
pub trait HasLayer<const I: isize, L = AllLayers>: Signature {}

/// Says that a signature was written for the architecture `M`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the signature of a `{M}`",
    note = "`signature!(pub {Self}: {M} = \"config.json\")` declares one; `Dynamic` takes any checkpoint"
)]
pub trait Describes<M>: Signature {}

/// The signature of a model whose config is known only when the program runs. Names and ranks are still checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dynamic;
impl Signature for Dynamic {
    const NAME: &'static str = "Dynamic";
    const SIZES: Option<&'static [(&'static str, usize)]> = None;
}
impl<const I: isize, L: ModelDim> HasLayer<I, L> for Dynamic {}
impl<C: Signature, const I: isize> HasLayer<I, Unchecked> for C {}
impl<M> Describes<M> for Dynamic {}

/// Says that a value belongs to the model it is used with.
#[diagnostic::on_unimplemented(
    message = "this value belongs to another model: expected `{C}`, found `{Self}`",
    label = "a value of `{Self}`",
    note = "the activations of two checkpoints mean different things; convert on purpose with `.to_signature::<{C}>()` after the trace"
)]
pub trait SameModel<C> {}
impl<C> SameModel<C> for C {}
