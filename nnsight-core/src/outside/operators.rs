//! `+ - * /` on tensors, as candle has them: the result is a `Result`, and so may be either side.

use std::ops::{Add, Div, Mul, Sub};
use std::panic::Location;

use super::computed::{check_sizes, computed};
use crate::graph::{Binary, Op};
use crate::types::{BroadcastFrom, Kind, Number, SameKind, SameModel, Saved, Scaled, Shape, Tensor};
use crate::{Error, Result};

/// What may be combined with a tensor outside of a trace.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be combined with a tensor outside of a trace",
    label = "not a tensor of the same model",
    note = "what can is a `Tensor` of the same model and kind, a `Result` of one, or one times a number; a number beside a tensor is an `f64`: `1.0` and not `1`, `f64::from(strength)` of an `f32`"
)]
pub trait TensorOperand {
    /// The model that it belongs to.
    type Signature;
    /// Its shape.
    type Shape: Shape;
    /// Its kind.
    type Kind: Kind;
    #[doc(hidden)]
    fn saved(self) -> Result<Saved>;
}

macro_rules! operand {
    ($([$($lifetime:lifetime)?] $place:ty: $value:ident => $saved:expr;)+) => {$(
        impl<$($lifetime,)? C, S: Shape, K: Kind> TensorOperand for $place {
            type Signature = C;
            type Shape = S;
            type Kind = K;
            fn saved(self) -> Result<Saved> {
                let $value = self;
                $saved
            }
        }
    )+};
}
operand! {
    [] Tensor<C, S, K>: tensor => Ok(Tensor::saved(&tensor).clone());
    ['a] &'a Tensor<C, S, K>: tensor => Ok(Tensor::saved(tensor).clone());
    [] Result<Tensor<C, S, K>>: tensor => tensor.map(|tensor| Tensor::saved(&tensor).clone());
    [] Scaled<C, S, K>: scaled => scaled.tensor().map(|tensor| Tensor::saved(&tensor).clone());
    ['a] &'a Scaled<C, S, K>: scaled => scaled.tensor().map(|tensor| Tensor::saved(&tensor).clone());
}

#[track_caller]
fn combined<C, S: Shape, K: Kind, V: TensorOperand>(binary: Binary, left: Result<Saved>, right: V) -> Result<Tensor<C, S, K>> {
    let (left, right) = (left?, right.saved()?);
    let op = Op::Binary(binary);
    let args = [(&left, S::NAMES), (&right, V::Shape::NAMES)];
    let here = Location::caller();
    check_sizes(&op.name(), args[0], args[1], here)?;
    computed(&op.name(), &op, &args, here).map(Tensor::of)
}

macro_rules! left {
    ($trait:ident $method:ident $op:ident: $([$($lifetime:lifetime)?] $place:ty;)+) => {$(
        impl<$($lifetime,)? C, S: Shape, K: Number, V: TensorOperand> $trait<V> for $place
        where
            V::Signature: SameModel<C>,
            V::Kind: SameKind<K>,
            S: BroadcastFrom<V::Shape>,
        {
            type Output = Result<Tensor<C, S, K>>;
            #[track_caller]
            fn $method(self, other: V) -> Self::Output {
                combined(Binary::$op, TensorOperand::saved(self), other)
            }
        }
    )+};
}

// Of a `Result` on the left the right side has to be spelled out, since `Result` is not this crate's.
macro_rules! left_result {
    ($trait:ident $method:ident $op:ident: $([$($lifetime:lifetime)?] $place:ty;)+) => {$(
        impl<$($lifetime,)? C, S: Shape, K: Number, D, R: Shape, L: Kind> $trait<$place> for Result<Tensor<C, S, K>, Error>
        where
            D: SameModel<C>,
            L: SameKind<K>,
            S: BroadcastFrom<R>,
        {
            type Output = Result<Tensor<C, S, K>>;
            #[track_caller]
            fn $method(self, other: $place) -> Self::Output {
                combined(Binary::$op, TensorOperand::saved(self), other)
            }
        }
    )+};
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident;)+) => {$(
        left! { $trait $method $op:
            [] Tensor<C, S, K>;
            ['a] &'a Tensor<C, S, K>;
            [] Scaled<C, S, K>;
            ['a] &'a Scaled<C, S, K>;
        }
        left_result! { $trait $method $op:
            [] Tensor<D, R, L>;
            ['a] &'a Tensor<D, R, L>;
            [] Scaled<D, R, L>;
            ['a] &'a Scaled<D, R, L>;
        }
    )+};
}
operators! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
}

macro_rules! numbers {
    ($($trait:ident $method:ident $number:ident => $summand:expr, $([$($lifetime:lifetime)?] $place:ty),+;)+) => {$($(
        impl<$($lifetime,)? C, S: Shape> $trait<f64> for $place {
            type Output = Result<Tensor<C, S>>;
            fn $method(self, $number: f64) -> Self::Output {
                TensorOperand::saved(self)?.affine(1.0, $summand).map(Tensor::of)
            }
        }
    )+)+};
}
numbers! {
    Add add number => number, [] Tensor<C, S>, ['a] &'a Tensor<C, S>, [] Scaled<C, S>, ['a] &'a Scaled<C, S>;
    Sub sub number => -number, [] Tensor<C, S>, ['a] &'a Tensor<C, S>, [] Scaled<C, S>, ['a] &'a Scaled<C, S>;
}
