//! `derive(Module)`: parse the struct, write its sites.

mod common;
mod expand;
mod load;
mod parse;
#[cfg(test)]
mod snapshots;

use proc_macro2::TokenStream;

use crate::errors::Errors;

pub fn expand(input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let module = errors.keep(syn::parse2(input)).and_then(|input| parse::Module::new(&input, &mut errors));
    let errors = errors.finish();
    match module {
        Some(module) if errors.is_empty() => expand::module(&module),
        _ => errors,
    }
}
