//! What the entries of a value are.

use crate::graph::KindTag;

/// What the entries of a value are: [`Float`], [`Int`] or [`Bool`].
pub trait Kind: Copy + Default + 'static {
    /// The same as data.
    const TAG: KindTag;
}

/// Floating-point numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Float;
/// Whole numbers, such as token ids.
#[derive(Clone, Copy, Debug, Default)]
pub struct Int;
/// Truth values, as comparisons give them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bool;

impl Kind for Float {
    const TAG: KindTag = KindTag::Float;
}
impl Kind for Int {
    const TAG: KindTag = KindTag::Int;
}
impl Kind for Bool {
    const TAG: KindTag = KindTag::Bool;
}

/// The kinds one can calculate with.
#[diagnostic::on_unimplemented(
    message = "arithmetic needs numbers, and this value is of kind `{Self}`",
    label = "a value of kind `{Self}`",
    note = "turn a boolean tensor into numbers with `.cast::<Float>()`, or choose between two values with `.where_(a, b)`"
)]
pub trait Number: Kind {}
impl Number for Float {}
impl Number for Int {}

/// The kind that has fractions.
#[diagnostic::on_unimplemented(
    message = "this is computed of floating-point numbers, and this value is of kind `{Self}`",
    label = "a value of kind `{Self}`",
    note = "turn it into floating-point numbers first: `.cast::<Float>()`"
)]
pub trait Real: Number {}
impl Real for Float {}

/// Says that a value has the kind that its place asks for.
#[diagnostic::on_unimplemented(message = "expected a value of kind `{K}`, found `{Self}`", note = "convert it with `.cast::<{K}>()`")]
pub trait SameKind<K> {}
impl<K> SameKind<K> for K {}
