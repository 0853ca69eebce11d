//! Signatures: the constants of one checkpoint, known to the compiler.

/// A type that stands for one checkpoint. Written by `signature!`.
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

/// Says that a model has the layer `I`; negative layers count from the end.
#[diagnostic::on_unimplemented(
    message = "model `{Self}` has no layer {I}",
    label = "no layer {I} in `{Self}`",
    note = "layers count from 0, or from the end with -1 for the last"
)]
pub trait HasLayer<const I: isize>: Signature {}

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
impl<const I: isize> HasLayer<I> for Dynamic {}
impl<M> Describes<M> for Dynamic {}

/// Says that a value belongs to the model it is used with.
#[diagnostic::on_unimplemented(
    message = "this value belongs to another model: expected `{C}`, found `{Self}`",
    label = "a value of `{Self}`",
    note = "the activations of two checkpoints mean different things; convert on purpose with `.to_signature::<{C}>()` after the trace"
)]
pub trait SameModel<C> {}
impl<C> SameModel<C> for C {}
