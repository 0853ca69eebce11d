//! `trace!`, `invoke!` and `#[intervene]`: parse, check the order, rewrite, expand.

mod expand;
mod order;
mod parse;
mod rewrite;
#[cfg(test)]
mod snapshots;

use proc_macro2::TokenStream;
use quote::quote;

use crate::errors::Errors;

/// What becomes of the recorded graph.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// It is run.
    Run,
    /// It is given back.
    Graph,
}

pub fn expand(input: TokenStream, outcome: Outcome) -> TokenStream {
    let mut errors = Errors::default();
    let trace = match syn::parse2::<parse::Trace>(input.clone()) {
        Ok(trace) => trace,
        Err(error) => {
            errors.push(error);
            return expand::unparsed(input, errors.finish());
        }
    };
    order::check(&trace, &mut errors);
    let expanded = expand::trace(trace, outcome, &mut errors);
    let errors = errors.finish();
    match errors.is_empty() {
        true => expanded,
        // rustc goes on with what is right, and reports its own errors with these.
        false => quote!({ #errors #expanded }),
    }
}

pub fn stray_invoke(input: TokenStream) -> TokenStream {
    let span = input.into_iter().next().map_or_else(proc_macro2::Span::call_site, |token| token.span());
    let error = syn::Error::new(span, "`invoke!` stands inside of `trace!(model, { … })`, in the block itself").to_compile_error();
    quote!({ #error ::core::unreachable!() })
}

pub fn intervene(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    if let Some(token) = arguments.into_iter().next() {
        errors.add(token.span(), "`#[intervene]` takes no arguments");
    }
    let function = match syn::parse2::<syn::ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            errors.push(error);
            let errors = errors.finish();
            // The item stays, so that editors can go on completing in it.
            return quote!(#errors #item);
        }
    };
    order::check_block(&function.block, &mut errors);
    let function = expand::function(function, &mut errors);
    let errors = errors.finish();
    quote!(#errors #function)
}
