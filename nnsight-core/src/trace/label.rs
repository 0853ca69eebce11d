//! The name in the program of what is printed.

use std::cell::Cell;

thread_local! {
    static LABEL: Cell<&'static str> = const { Cell::new("") };
}

/// Runs `call`, which may print a value, under the name that the program has for it. The macros write it around `h.print()`.
#[doc(hidden)]
pub fn labelled<R>(label: &'static str, call: impl FnOnce() -> R) -> R {
    let before = LABEL.replace(label);
    let result = call();
    LABEL.set(before);
    result
}

/// The name of what is printed now, for the first that asks.
pub(super) fn take() -> &'static str {
    LABEL.take()
}
