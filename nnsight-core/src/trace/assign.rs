//! Assignments to fields that are no sites: what they always mean.

use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

/// Plain assignment. `trace!` writes `(place).__assign(value)` for every assignment to a field; sites have a method of that name, and
/// everything else has this.
#[doc(hidden)]
pub trait PlainAssign: Sized {
    fn __assign(&mut self, value: Self) {
        *self = value;
    }
    fn __add_assign<V>(&mut self, value: V)
    where
        Self: AddAssign<V>,
    {
        *self += value;
    }
    fn __sub_assign<V>(&mut self, value: V)
    where
        Self: SubAssign<V>,
    {
        *self -= value;
    }
    fn __mul_assign<V>(&mut self, value: V)
    where
        Self: MulAssign<V>,
    {
        *self *= value;
    }
    fn __div_assign<V>(&mut self, value: V)
    where
        Self: DivAssign<V>,
    {
        *self /= value;
    }
}
impl<T> PlainAssign for T {}
