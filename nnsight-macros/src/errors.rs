//! Collects errors, so that all of them are reported at once.

use proc_macro2::{Span, TokenStream};

/// The errors of one expansion. Must be ended with [`Errors::finish`].
#[derive(Default)]
pub struct Errors {
    collected: Option<syn::Error>,
    finished: bool,
}

impl Errors {
    /// Adds an error at a place of the user's program.
    pub fn add(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(syn::Error::new(span, message));
    }

    /// Adds an error that a parser gave.
    pub fn push(&mut self, error: syn::Error) {
        match &mut self.collected {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    /// Keeps the value, or notes the error.
    pub fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// The `compile_error!`s, or nothing.
    pub fn finish(mut self) -> TokenStream {
        self.finished = true;
        self.collected.take().map(|error| error.to_compile_error()).unwrap_or_default()
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "errors must be reported");
    }
}
