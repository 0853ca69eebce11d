//! `+ - * /`, their assigning forms on variables, and `& | !`.

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

use super::operand::{Operand, WithFractions};
use super::traced::Traced;
use super::value::Value;
use crate::graph::{Binary, Logic, Op, Unary};
use crate::types::{Bool, BroadcastFrom, Kind, Number, Shape, Signature};

macro_rules! operators {
    (@one [$($place:tt)+] $trait:ident $method:ident $op:ident) => {
        impl<'t, C: Signature, S: Shape, K: Kind, V: Operand<'t, C, S, K>> $trait<V> for $($place)+<'t, C, S, K> {
            type Output = Value<'t, C, S, K>;
            #[track_caller]
            fn $method(self, other: V) -> Self::Output {
                let value = self.value();
                let other = other.operand(value.tracer);
                value.then_with(Op::Binary(Binary::$op), other)
            }
        }
        impl<'t, C: Signature, S: Shape, K: WithFractions<C>> $trait<$($place)+<'t, C, S, K>> for f64 {
            type Output = Value<'t, C, S, K>;
            #[track_caller]
            fn $method(self, other: $($place)+<'t, C, S, K>) -> Self::Output {
                let other = other.value();
                let number = other.tracer.push(Op::Scalar(self), &[]);
                Value::new(other.tracer, other.tracer.push(Op::Binary(Binary::$op), &[number, other.id]))
            }
        }
    };
    ($([$($name:tt)+];)+) => {$(
        operators!(@one [$($name)+] Add add Add);
        operators!(@one [$($name)+] Sub sub Sub);
        operators!(@one [$($name)+] Mul mul Mul);
        operators!(@one [$($name)+] Div div Div);
        impl<'t, C: Signature, S: Shape, K: Number> Neg for $($name)+<'t, C, S, K> {
            type Output = Value<'t, C, S, K>;
            #[track_caller]
            fn neg(self) -> Self::Output {
                self.value().then(Op::Unary(Unary::Neg))
            }
        }
    )+};
}
operators! {
    [Value];
    [super::Site];
    [super::SitePart];
    [super::Gradient];
}

macro_rules! rebind {
    ($($trait:ident $method:ident $op:tt;)+) => {$(
        impl<'t, C: Signature, S: Shape, K: Kind, V: Operand<'t, C, S, K>> $trait<V> for Value<'t, C, S, K> {
            #[track_caller]
            fn $method(&mut self, other: V) {
                *self = *self $op other;
            }
        }
    )+};
}
rebind! {
    AddAssign add_assign +;
    SubAssign sub_assign -;
    MulAssign mul_assign *;
    DivAssign div_assign /;
}

macro_rules! logic {
    ($($trait:ident $method:ident $op:ident;)+) => {$(
        impl<'t, C: Signature, S: Shape + BroadcastFrom<R>, R: Shape> $trait<Value<'t, C, R, Bool>> for Value<'t, C, S, Bool> {
            type Output = Value<'t, C, S, Bool>;
            #[track_caller]
            fn $method(self, other: Value<'t, C, R, Bool>) -> Self::Output {
                self.then_with(Op::Logic(Logic::$op), other.id)
            }
        }
    )+};
}
logic! {
    BitAnd bitand And;
    BitOr bitor Or;
}

impl<'t, C: Signature, S: Shape> Not for Value<'t, C, S, Bool> {
    type Output = Self;
    #[track_caller]
    fn not(self) -> Self {
        self.then(Op::Logic(Logic::Not))
    }
}
