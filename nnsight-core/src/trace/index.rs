//! Whole numbers of any type as indices.

/// An index into an axis.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an index",
    label = "not a whole number",
    note = "an index is a whole number, and negative ones count from the end: `h.at(Seq, -1)`; a range is `h.slice(Seq, 1..3)`, a list is `h.select(Seq, [0, 4])`"
)]
pub trait Index {
    /// As a number; negative ones count from the end.
    fn index(self) -> i64;
}
macro_rules! index {
    ($($number:ty),+) => {$(
        impl Index for $number {
            fn index(self) -> i64 {
                i64::try_from(self).unwrap_or(i64::MAX)
            }
        }
        impl Index for &$number {
            fn index(self) -> i64 {
                (*self).index()
            }
        }
    )+};
}
index!(i32, i64, isize, u32, u64, usize, u8);
