//! What people write out of habit, and what to write instead: operators that cannot mean anything in a trace say so.

use std::ops::Index;

use super::{Site, SitePart, Value};

/// What a traced value may be compared with by an operator: nothing.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`==`, `<` and `>` have a `bool` at once, and a traced value exists only when the trace runs",
    label = "cannot be compared with a traced value by an operator",
    note = "compare with a method: `h.gt(0.0)`, `.ge`, `.lt`, `.le`, `.eq`, `.ne`; the result is a traced boolean, which `&`, `|` and `!` combine"
)]
pub trait ComparedByOperator {}

/// What a site may be indexed with by `[..]`: nothing.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a traced value is not indexed with `[..]`",
    label = "an axis has to be named",
    note = "one entry is `site.at(Seq, -1)`, a range is `site.slice(Seq, 1..3)`, a list is `site.select(Seq, [0, 4])`"
)]
pub trait IndexedByBrackets {}

macro_rules! habits {
    ($($traced:ident),+) => {$(
        impl<R: ComparedByOperator, C, S, K> PartialEq<R> for $traced<'_, C, S, K> {
            fn eq(&self, _other: &R) -> bool {
                false
            }
        }
        impl<R: ComparedByOperator, C, S, K> PartialOrd<R> for $traced<'_, C, S, K> {
            fn partial_cmp(&self, _other: &R) -> Option<std::cmp::Ordering> {
                None
            }
        }
        impl<R: IndexedByBrackets, C, S, K> Index<R> for $traced<'_, C, S, K> {
            type Output = Self;
            fn index(&self, _index: R) -> &Self {
                self
            }
        }
    )+};
}
habits!(Value, Site, SitePart);
