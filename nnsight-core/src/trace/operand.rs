//! What may be on the right of an operator or an assignment.

use super::traced::Traced;
use super::value::Value;
use super::{Gradient, Site, SitePart, Tracer};
use crate::Error;
use crate::graph::{Binary, Constant, NodeId, Op};
use crate::types::{Bool, BroadcastFrom, ExpandedFrom, Float, Int, Kind, Number, SameKind, SameModel, Scaled, Shape, Signature, Tensor};

/// What may be combined with something of the shape `S` and the kind `K`, which it may broadcast to.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be combined with a value of kind `{K}`",
    label = "not a value, a tensor or a number that fits the kind `{K}`",
    note = "what fits is a value or site of the same trace, a `Tensor` of the same model, or a number; `Tensor::new` makes one of a candle tensor",
    note = "arithmetic on tensors returns a `Result`, and `?` takes the tensor out of it: `let direction = (&a - &b)?;`",
    note = "a value of kind `Int` takes whole numbers only, and one of kind `Bool` none: `.cast::<Float>()` makes floating-point numbers of either"
)]
pub trait Operand<'t, C, S, K> {
    #[doc(hidden)]
    #[track_caller]
    fn operand(self, tracer: &'t Tracer) -> NodeId;
}

/// What may be assigned to a place of the shape `S` and the kind `K`: the same axes, or a number.
///
/// # Shapes
/// An axis of the type `One` is an explicit expansion: [`Traced::expand`] makes one, and `mean_keepdim` and its kin leave one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be assigned to a place of the model",
    label = "not a value, a tensor or a number",
    note = "what fits is a value or site of the same trace, a `Tensor` of the same model, or a number; `Tensor::new` makes one of a candle tensor",
    note = "arithmetic on tensors returns a `Result`, and `?` takes the tensor out of it: `let direction = (&a - &b)?;`"
)]
pub trait Assigned<'t, C, S, K> {
    #[doc(hidden)]
    #[track_caller]
    fn assigned(self, tracer: &'t Tracer) -> NodeId;
}

/// A number as the program writes it, for something of the kind `K`.
#[diagnostic::on_unimplemented(
    message = "a number of type `{Self}` does not fit a value of kind `{K}`",
    label = "cut to a whole number, this would be another one",
    note = "turn the whole numbers into floating-point ones first: `.cast::<Float>()`"
)]
pub trait NumberFor<K> {
    #[doc(hidden)]
    fn number(self) -> f64;
}

macro_rules! numbers {
    ($kind:ident: $($number:ty),+) => {$(
        impl NumberFor<$kind> for $number {
            fn number(self) -> f64 {
                self as f64
            }
        }
    )+};
}
numbers!(Float: f64, f32, i32, i64, u32, usize);
numbers!(Int: i32, i64, u32, usize);

/// The kinds that a number with a fraction fits.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a number with a fraction cannot be combined with a value of kind `{Self}`",
    label = "a value of kind `{Self}`",
    note = "the fraction would be cut off: turn the value into floating-point numbers first, with `.cast::<Float>()`"
)]
pub trait WithFractions<C>: Number {}
impl<C> WithFractions<C> for Float {}

/// The kinds that numbers fit.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a number cannot be combined with a value of kind `{Self}`",
    label = "a value of kind `{Self}`",
    note = "turn the booleans into 0 and 1 first, with `.cast::<Float>()`, or choose between two values with `.where_(a, b)`"
)]
pub trait WithNumbers<C> {}
impl<C> WithNumbers<C> for Float {}
impl<C> WithNumbers<C> for Int {}

// One by one, and not for all `NumberFor`: the compiler then says of anything else what it lacks.
macro_rules! assigned_numbers {
    ($($number:ty),+) => {$(
        impl<'t, C, S, K: Number> Assigned<'t, C, S, K> for $number
        where
            $number: NumberFor<K>,
        {
            fn assigned(self, tracer: &'t Tracer) -> NodeId {
                tracer.push(Op::Scalar(NumberFor::<K>::number(self)), &[])
            }
        }
    )+};
}
assigned_numbers!(f64, f32, i32, i64, u32, usize);

// Where a kind does not take a literal, an impl that never holds is the literal's only candidate, so that the compiler says why it does not hold.
// The reason is a bound on the kind and not on the number: of a bound on the same type rustc prints the message of `Operand`.
macro_rules! number_operands {
    ($kind:ident: $fits:ident<C>; $($number:ty),+) => {$(
        impl<'t, C, S> Operand<'t, C, S, $kind> for $number
        where
            $kind: $fits<C>,
        {
            fn operand(self, tracer: &'t Tracer) -> NodeId {
                tracer.push(Op::Scalar(self as f64), &[])
            }
        }
    )+};
}
number_operands!(Float: WithNumbers<C>; f64, f32, i32, i64, u32, usize);
number_operands!(Int: WithNumbers<C>; i32, i64, u32, usize);
number_operands!(Int: WithFractions<C>; f64);
number_operands!(Bool: WithNumbers<C>; f64, i32);

macro_rules! traced {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature, D: Signature, S: Shape, R: Shape, K: Number, L: Kind> Operand<'t, C, S, K> for $place<'t, D, R, L>
        where
            D: SameModel<C>,
            L: SameKind<K>,
            S: BroadcastFrom<R>,
        {
            fn operand(self, tracer: &'t Tracer) -> NodeId {
                self.value().operand_of(tracer)
            }
        }
        impl<'t, C: Signature, D: Signature, S: Shape, R: Shape, K: Number, L: Kind> Assigned<'t, C, S, K> for $place<'t, D, R, L>
        where
            D: SameModel<C>,
            L: SameKind<K>,
            S: ExpandedFrom<R>,
        {
            fn assigned(self, tracer: &'t Tracer) -> NodeId {
                self.value().operand_of(tracer)
            }
        }
    )+};
}
traced!(Value, Site, SitePart, Gradient);

impl<'t, C, S, K> Value<'t, C, S, K> {
    /// Its node, where it belongs to this trace.
    #[track_caller]
    pub(super) fn operand_of(self, tracer: &'t Tracer) -> NodeId {
        if !std::ptr::eq(self.tracer, tracer) {
            tracer.fail(|source_line| Error::OtherTrace { source_line });
            return tracer.push(Op::Scalar(0.0), &[]);
        }
        self.id
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Operand<'t, C, S, K> for &Tensor<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: BroadcastFrom<R>,
{
    fn operand(self, tracer: &'t Tracer) -> NodeId {
        constant(self, tracer)
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Assigned<'t, C, S, K> for &Tensor<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: ExpandedFrom<R>,
{
    fn assigned(self, tracer: &'t Tracer) -> NodeId {
        constant(self, tracer)
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Operand<'t, C, S, K> for Tensor<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: BroadcastFrom<R>,
{
    fn operand(self, tracer: &'t Tracer) -> NodeId {
        constant(&self, tracer)
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Assigned<'t, C, S, K> for Tensor<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: ExpandedFrom<R>,
{
    fn assigned(self, tracer: &'t Tracer) -> NodeId {
        constant(&self, tracer)
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Operand<'t, C, S, K> for Scaled<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: BroadcastFrom<R>,
{
    fn operand(self, tracer: &'t Tracer) -> NodeId {
        scaled(&self, tracer)
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Assigned<'t, C, S, K> for Scaled<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: ExpandedFrom<R>,
{
    fn assigned(self, tracer: &'t Tracer) -> NodeId {
        scaled(&self, tracer)
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Operand<'t, C, S, K> for &Scaled<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: BroadcastFrom<R>,
{
    fn operand(self, tracer: &'t Tracer) -> NodeId {
        scaled(self, tracer)
    }
}

impl<'t, C, D: Signature, S, R: Shape, K: Number, L: Kind> Assigned<'t, C, S, K> for &Scaled<D, R, L>
where
    D: SameModel<C>,
    L: SameKind<K>,
    S: ExpandedFrom<R>,
{
    fn assigned(self, tracer: &'t Tracer) -> NodeId {
        scaled(self, tracer)
    }
}

#[track_caller]
fn scaled<C, S: Shape, K>(scaled: &Scaled<C, S, K>, tracer: &Tracer) -> NodeId {
    let (tensor, factor) = (constant(&scaled.tensor, tracer), tracer.push(Op::Scalar(scaled.factor), &[]));
    tracer.push(Op::Binary(Binary::Mul), &[tensor, factor])
}

#[track_caller]
fn constant<C, S: Shape, K>(tensor: &Tensor<C, S, K>, tracer: &Tracer) -> NodeId {
    let names = S::NAMES.iter().map(ToString::to_string).collect();
    if tensor.whole().is_err() || tensor.lengths().is_some() {
        let lengths = tensor.lengths().unwrap_or_default();
        tracer.fail(|source_line| Error::RowsIntoTrace { lengths, source_line });
    }
    tracer.constant(Constant { names, tensor: tensor.padded().clone() })
}

impl<C: Signature, S: Shape, K: Kind> Tensor<C, S, K> {
    /// The tensor as a value of the trace that `site` belongs to, for everything that [`Traced`] can do.
    #[track_caller]
    pub fn traced<'t, R: Shape, L: Kind>(&self, site: impl Traced<'t, C, R, L>) -> Value<'t, C, S, K> {
        Value::new(site.tracer(), constant(self, site.tracer()))
    }
}

/// What may name an entry for [`Traced::pick`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name one entry for each of `{S}`",
    note = "what does is a whole number such as a token id, or a traced value of kind `Int` with the shape `{S}`",
    note = "the id of a text that is one token is `model.tokenizer().token(\" Mary\")?`"
)]
pub trait Choice<'t, C, S> {
    #[doc(hidden)]
    #[track_caller]
    fn choice(self) -> Chosen;
}

#[doc(hidden)]
#[derive(Debug)]
pub enum Chosen {
    Entry(i64),
    Each(NodeId),
}

macro_rules! entries {
    ($($number:ty),+) => {$(
        impl<C, S> Choice<'_, C, S> for $number {
            fn choice(self) -> Chosen {
                Chosen::Entry(super::index::Index::index(self))
            }
        }
    )+};
}
entries!(i32, i64, u32, usize);

impl<'t, C: Signature, S: Shape> Choice<'t, C, S> for Value<'t, C, S, Int> {
    fn choice(self) -> Chosen {
        Chosen::Each(self.id)
    }
}
