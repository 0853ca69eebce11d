//! What is written in place of a trace.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{Block, ItemFn};

use super::Outcome;
use super::parse::{Invoke, Trace};
use super::rewrite::Rewrite;
use crate::errors::Errors;

/// The names that one trace shares between its parts. They cannot meet the user's.
pub struct Names {
    handle: Ident,
    tracer: Ident,
    /// What the block calls the model.
    model: Ident,
}

impl Names {
    fn new(model: Ident) -> Self {
        // rustc names only variables of the user's own program: "`this_trace` does not live long enough".
        let tracer = Ident::new("this_trace", model.span());
        Names { handle: Ident::new("handle", Span::mixed_site()), tracer, model }
    }
}

pub fn trace(trace: Trace, outcome: Outcome, errors: &mut Errors) -> TokenStream {
    let Trace { name, model, prompt, mut body } = trace;
    let names = Names::new(name.clone());
    Rewrite { names: Some(&names), errors }.visit_block_mut(&mut body);
    let Names { handle, tracer, .. } = &names;
    let statements = &body.stmts;
    // What the block ends with is where it is said that something cannot be saved.
    let last = body.stmts.last().map_or_else(Span::call_site, |last| last.span());
    let outcome_name = Ident::new("outcome", Span::mixed_site().located_at(last));
    let sites = match prompt {
        Some(prompt) => quote!(::nnsight::__private::invoke(#handle, &#tracer, #prompt)),
        None => quote!(::nnsight::__private::sites(#handle, &#tracer)),
    };
    let end = match outcome {
        Outcome::Run => quote_spanned!(last=> ::nnsight::__private::run(#handle, &#tracer, #outcome_name)),
        Outcome::Graph => quote_spanned!(last=> ::nnsight::__private::graph(&#tracer, #outcome_name)),
    };
    quote!({
        let #handle = &#model;
        let #tracer = ::nnsight::__private::tracer(#handle);
        let #outcome_name = {
            #[allow(unused_imports)]
            use ::nnsight::__private::{LiteralIndex as _, Traced as _};
            #[allow(unused_variables)]
            let #name = #sites;
            #(#statements)*
        };
        let result = #end;
        result
    })
}

pub fn invoke(invoke: Invoke, names: &Names) -> TokenStream {
    let Invoke { prompt, body } = invoke;
    let Names { handle, tracer, model } = names;
    let statements = &body.stmts;
    quote!({
        #[allow(unused_variables)]
        let #model = ::nnsight::__private::invoke(#handle, &#tracer, #prompt);
        #(#statements)*
    })
}

pub fn function(mut function: ItemFn, errors: &mut Errors) -> TokenStream {
    Rewrite { names: None, errors }.visit_block_mut(&mut function.block);
    let ItemFn { attrs, vis, sig, block, .. } = function;
    let Block { stmts, .. } = *block;
    quote! {
        #(#attrs)*
        #vis #sig {
            #[allow(unused_imports)]
            use ::nnsight::__private::{LiteralIndex as _, Traced as _};
            #(#stmts)*
        }
    }
}

/// What is written while somebody is typing: the error, and the tokens where they are never run, so that editors see them.
pub fn unparsed(input: TokenStream, errors: TokenStream) -> TokenStream {
    quote!({
        #errors
        #[allow(unreachable_code, unused)]
        if false {
            let _ = (#input);
        }
        ::core::unreachable!()
    })
}
