//! `trace!`, its kin, and `#[intervene]`: parse, check the order, rewrite, expand.

mod bind;
mod branch;
mod expand;
mod loops;
mod of_model;
mod order;
mod parse;
mod points;
mod rewrite;
#[cfg(test)]
mod snapshots;

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use crate::errors::Errors;

/// What a macro does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `trace!`: records a block and runs it.
    Trace,
    /// `generate!`: the same, and continues the prompts.
    Generate,
    /// `session!`: several traces as one.
    Session,
    /// `graph!`: gives what was recorded.
    Graph,
    /// `scan!`: gives the shapes.
    Scan,
    /// `edit!`: gives a view of the model.
    Edit,
}

pub fn expand(input: TokenStream, form: Form) -> TokenStream {
    let mut errors = Errors::default();
    let trace = match syn::parse2::<parse::Trace>(input.clone()) {
        Ok(trace) => trace,
        Err(error) => {
            errors.push(error);
            return expand::unparsed(input, errors.finish());
        }
    };
    check_form(&trace, form, &mut errors);
    order::check(&trace, &mut errors);
    let expanded = expand::trace(trace, form, &mut errors);
    let errors = errors.finish();
    match errors.is_empty() {
        true => expanded,
        // rustc goes on with what is right, and reports its own errors with these.
        false => quote!({ #errors #expanded }),
    }
}

/// The graph of a block, or of a sweep: that has a loop where the other has a block.
pub fn graph(input: TokenStream) -> TokenStream {
    let is_loop = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "for");
    match input.clone().into_iter().any(|token| is_loop(&token)) {
        true => sweep(input, Form::Graph),
        false => expand(input, Form::Graph),
    }
}

pub fn sweep(input: TokenStream, form: Form) -> TokenStream {
    let mut errors = Errors::default();
    let sweep = match syn::parse2::<parse::Sweep>(input.clone()) {
        Ok(sweep) => sweep,
        Err(error) => {
            errors.push(error);
            return expand::unparsed(input, errors.finish());
        }
    };
    let expanded = expand::sweep(sweep, form, &mut errors);
    let errors = errors.finish();
    match errors.is_empty() {
        true => expanded,
        false => quote!({ #errors #expanded }),
    }
}

/// Reports what a macro is given and has no use for.
fn check_form(trace: &parse::Trace, form: Form, errors: &mut Errors) {
    if let (Form::Edit | Form::Session, Some(prompt)) = (form, &trace.prompt) {
        let message = match form {
            Form::Edit => "an edit is for every prompt, and has none of its own: `edit!(model, { … })`",
            _ => "the traces of a session have prompts, the session has none: `session!(model, { … })`",
        };
        errors.push(syn::Error::new_spanned(prompt, message));
    }
    if let (Form::Trace | Form::Edit | Form::Session, Some((name, _))) = (form, trace.settings.0.first()) {
        errors.add(name.span(), "only `generate!` has settings: `generate!(model, prompt, max_new_tokens = 20, { … })`");
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
