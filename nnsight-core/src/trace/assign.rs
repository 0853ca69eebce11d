//! Assignments to fields, and through references, that are no places of the model: what they always mean.

use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

/// Plain assignment. The macros write `place.__put(value)` for an assignment to a field whose type they do not know; places of the model have
/// methods of these names, and everything else has this.
#[doc(hidden)]
pub trait PlainAssign: Sized {
    fn __put(&mut self, value: Self) {
        *self = value;
    }
}
impl<T> PlainAssign for T {}

macro_rules! plain_update {
    ($($trait:ident $method:ident $name:ident $put:ident;)+) => {$(
        #[doc(hidden)]
        pub trait $name: Sized {
            fn $put<V>(&mut self, value: V)
            where
                Self: $trait<V>,
            {
                $trait::$method(self, value);
            }
        }
        impl<T> $name for T {}
    )+};
}
plain_update! {
    AddAssign add_assign PlainAdd __put_add;
    SubAssign sub_assign PlainSub __put_sub;
    MulAssign mul_assign PlainMul __put_mul;
    DivAssign div_assign PlainDiv __put_div;
}
