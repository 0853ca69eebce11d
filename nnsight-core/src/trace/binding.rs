//! What an expression of a block is bound to. A place of the model is read at the line where it is bound; everything else stays what it is.
//!
//! The macros know syntax only. What is a field of the model itself, or of a parameter, has a type that the compiler knows by then: it is read
//! by a method, which places have and [`PlainRead`] has for everything else. Of any other expression they ask for the type with a [`Probe`], whose
//! methods the compiler picks by how often a reference has to be taken: the first that fits wins, so that a type which is not inferred yet counts
//! as plain. It takes the compiler several times as long.

use std::marker::PhantomData;
use std::panic::UnwindSafe;

use super::gradient::Gradient;
use super::selection::Selected;
use super::traced::Traced;
use super::value::Value;
use super::{Site, SitePart};
use crate::types::{Kind, Shape, Signature};

/// Stands for the type of an expression that is not evaluated.
#[doc(hidden)]
pub struct Probe<T: ?Sized>(PhantomData<fn(&T)>);

impl<T: ?Sized> Probe<T> {
    pub fn of(_: &T) -> Self {
        Probe(PhantomData)
    }
    pub fn unasked() -> Self {
        Probe(PhantomData)
    }
}

/// Reads a place of the model, and leaves everything else: `read!([raw] place)`, where `raw` is the place as it was written.
#[doc(hidden)]
#[macro_export]
macro_rules! __read {
    ([$raw:expr] $place:expr) => {
        (&&&&if false { $crate::__private::Probe::of(&$raw) } else { $crate::__private::Probe::unasked() }).__kind().read($place)
    };
}

/// As `read!`, of what has a type that the compiler knows by then.
#[doc(hidden)]
#[macro_export]
macro_rules! __known {
    ($place:expr) => {
        $place.__read()
    };
}

/// As `read!`, of what is no place of the program and so is evaluated first.
#[doc(hidden)]
#[macro_export]
macro_rules! __bind {
    ($value:expr) => {
        match $value {
            value => (&&&&$crate::__private::Probe::of(&value)).__kind().read(value),
        }
    };
}

/// Remembers the line at which a handle to a place was made, so that using it after an edit of the place is refused.
#[doc(hidden)]
#[macro_export]
macro_rules! __handle {
    ($value:expr) => {
        match $value {
            value => (&&&&$crate::__private::Probe::of(&value)).__kind().handle(value),
        }
    };
}

/// `&mut place`: of the model, a borrowed handle that can be assigned to; of anything else, what it always is.
#[doc(hidden)]
#[macro_export]
macro_rules! __borrow {
    ([$raw:expr] $place:expr) => {
        &mut *$place.__place(if false { $crate::__private::Probe::of(&$raw) } else { $crate::__private::Probe::unasked() })
    };
}

/// What is bound as it is.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Itself;

impl Itself {
    pub fn read<T>(self, value: T) -> T {
        value
    }
    pub fn handle<T>(self, value: T) -> T {
        value
    }
}

/// A place of the model.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct OfTheModel;

impl OfTheModel {
    #[track_caller]
    pub fn read<P: Bind>(self, place: P) -> P::Read {
        place.bind()
    }
    #[track_caller]
    pub fn handle<P: Bind>(self, place: P) -> P {
        place.stamped()
    }
}

/// A reference to something that may be changed: it is lent on, as plain Rust does.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Lent;

impl Lent {
    pub fn read<T: ?Sized>(self, value: &mut T) -> &mut T {
        value
    }
    pub fn handle<T: ?Sized>(self, value: &mut T) -> &mut T {
        value
    }
}

/// A place of the model that is read where it is bound.
#[doc(hidden)]
pub trait Bind: Sized {
    type Read;
    #[track_caller]
    fn bind(self) -> Self::Read;
    #[track_caller]
    fn stamped(self) -> Self {
        self
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Bind for Site<'t, C, S, K> {
    type Read = Value<'t, C, S, K>;
    fn bind(self) -> Self::Read {
        self.value()
    }
    fn stamped(self) -> Self {
        Site::stamped(self)
    }
}
impl<'t, C: Signature, S: Shape, K: Kind> Bind for SitePart<'t, C, S, K> {
    type Read = Value<'t, C, S, K>;
    fn bind(self) -> Self::Read {
        self.value()
    }
    fn stamped(self) -> Self {
        SitePart::stamped(self)
    }
}
impl<'t, C: Signature, S: Shape, K: Kind> Bind for Gradient<'t, C, S, K> {
    type Read = Value<'t, C, S, K>;
    fn bind(self) -> Self::Read {
        self.value()
    }
}
impl<'t, C: Signature, W: Shape, S: Shape, K: Kind> Bind for Selected<'t, C, W, S, K> {
    type Read = Value<'t, C, S, K>;
    fn bind(self) -> Self::Read {
        self.value()
    }
}

/// What is read of anything that is no place of the model: itself.
#[doc(hidden)]
pub trait PlainRead: Sized {
    fn __read(self) -> Self {
        self
    }
}
impl<T> PlainRead for T {}

macro_rules! reads {
    ($([$($generics:tt)*] $place:ty;)+) => {$(
        impl<'t, C, $($generics)* S, K> $place {
            #[doc(hidden)]
            #[track_caller]
            pub fn __read(self) -> <Self as Bind>::Read
            where
                Self: Bind,
            {
                self.bind()
            }
        }
        impl<'t, C, $($generics)* S, K> BindsPlace for &&Probe<$place> {
            fn __kind(&self) -> OfTheModel {
                OfTheModel
            }
        }
    )+};
}
reads! {
    [] Site<'t, C, S, K>;
    [] SitePart<'t, C, S, K>;
    [] Gradient<'t, C, S, K>;
    [W,] Selected<'t, C, W, S, K>;
}

// The first choice: what unwinding leaves whole is no place, which has a marker against it, and no `&mut`.
#[doc(hidden)]
pub trait BindsPlain {
    fn __kind(&self) -> Itself;
}
impl<T: UnwindSafe> BindsPlain for &&&Probe<T> {
    fn __kind(&self) -> Itself {
        Itself
    }
}

#[doc(hidden)]
pub trait BindsPlace {
    fn __kind(&self) -> OfTheModel;
}
#[doc(hidden)]
pub trait BindsLent {
    fn __kind(&self) -> Lent;
}
impl<T: ?Sized> BindsLent for &Probe<&mut T> {
    fn __kind(&self) -> Lent {
        Lent
    }
}

#[doc(hidden)]
pub trait BindsOther {
    fn __kind(&self) -> Itself;
}
impl<T: ?Sized> BindsOther for Probe<T> {
    fn __kind(&self) -> Itself {
        Itself
    }
}

/// A place that `&mut` was written before: a handle of its own, which assignments go through.
#[doc(hidden)]
#[derive(Debug)]
pub struct Borrowed<P>(pub(super) P);

impl<P> std::ops::Deref for Borrowed<P> {
    type Target = P;
    fn deref(&self) -> &P {
        &self.0
    }
}
impl<P> std::ops::DerefMut for Borrowed<P> {
    fn deref_mut(&mut self) -> &mut P {
        &mut self.0
    }
}

/// `&mut` before anything else. The type is named twice, so that a reference is not looked through.
#[doc(hidden)]
pub trait PlainPlace<X> {
    fn __place(&mut self, exactly: Probe<X>) -> &mut Self;
}
impl<T> PlainPlace<T> for T {
    fn __place(&mut self, _exactly: Probe<T>) -> &mut Self {
        self
    }
}
