//! What is written in place of a trace.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Block, Expr, ItemFn};

use super::Form;
use super::bind;
use super::of_model::OfModel;
use super::order;
use super::parse::{Invoke, Settings, Sweep, Trace};
use super::points::Points;
use super::rewrite::Rewrite;
use crate::errors::Errors;

/// The names that one trace shares between its parts. They cannot meet the user's.
pub struct Names {
    handle: Ident,
    tracer: Ident,
    /// How its prompts are continued, in `generate!`.
    settings: Option<Ident>,
    /// What the block calls the model.
    pub model: Ident,
    /// What the program calls it outside of the block, where that is another name.
    pub outer: Option<String>,
    /// Whether its prompts are continued.
    pub generates: bool,
    /// Whether there are traces inside of it.
    pub is_session: bool,
}

impl Names {
    fn new(model: Ident, given: &Expr, form: Form) -> Self {
        // rustc names only variables of the user's own program: "`this_trace` does not live long enough".
        let tracer = Ident::new("this_trace", model.span());
        let own = |name: &str| Ident::new(name, Span::mixed_site());
        let settings = (form == Form::Generate).then(|| own("settings"));
        let outer = match given {
            Expr::Path(path) if path.path.is_ident(&model) => None,
            given => Some(quote!(#given).to_string()),
        };
        Names { handle: own("handle"), tracer, settings, model, outer, generates: form == Form::Generate, is_session: form == Form::Session }
    }

    /// What the model's name stands for in a block.
    fn sites(&self, prompt: Option<&Expr>, mut settings: Settings) -> TokenStream {
        let Names { handle, tracer, .. } = self;
        let settings = match (&self.settings, settings.0.is_empty()) {
            (None, true) => None,
            (Some(outer), true) => Some(quote!(&#outer)),
            (outer, false) => {
                let base = outer.as_ref().map(|outer| quote!(#outer.clone()));
                let settings = chain(&mut settings, handle, base);
                Some(quote!(&#settings))
            }
        };
        match (prompt, settings) {
            // An error of a prompt is reported at the prompt, and not at the trace around it.
            (Some(prompt), None) => quote_spanned!(prompt.span()=> ::nnsight::__private::invoke(#handle, &#tracer, #prompt)),
            (Some(prompt), Some(settings)) => {
                quote_spanned!(prompt.span()=> ::nnsight::__private::generating(#handle, &#tracer, #prompt, #settings))
            }
            (None, None) => quote!(::nnsight::__private::all_inputs(#handle, &#tracer)),
            (None, Some(settings)) => quote!(::nnsight::__private::all_inputs_generating(#handle, &#tracer, #settings)),
        }
    }
}

/// Settings as calls: `Generation::default().max_new_tokens(20)`.
fn chain(settings: &mut Settings, handle: &Ident, base: Option<TokenStream>) -> TokenStream {
    let given = settings.take("settings").map(|base| quote!(::core::clone::Clone::clone(&#base)));
    let base = given.or(base).unwrap_or_else(|| quote!(::nnsight::__private::default_settings(#handle)));
    let calls = settings.0.iter().map(|(name, value)| quote!(.#name(#value)));
    quote!(#base #(#calls)*)
}

pub fn trace(trace: Trace, form: Form, errors: &mut Errors) -> TokenStream {
    let Trace { name, model, prompt, mut settings, mut body } = trace;
    let names = Names::new(name.clone(), &model, form);
    let of_model = OfModel::of_block(&name.to_string(), [&body]);
    Rewrite::new(Some(&names), &of_model, errors).block(&mut body);
    let Names { handle, tracer, .. } = &names;
    let statements = &body.stmts;
    // What the block ends with is where it is said that something cannot be saved.
    let last = body.stmts.last().map_or_else(Span::call_site, |last| last.span());
    let outcome = Ident::new("outcome", Span::mixed_site().located_at(last));
    let on_token = settings.take("on_token");
    let declared = names.settings.as_ref().map(|name| {
        let settings = chain(&mut settings, &names.handle, None);
        quote!(let #name = #settings;)
    });
    let sites = match (&prompt, form) {
        (_, Form::Edit) => quote!(::nnsight::__private::template(#handle, &#tracer)),
        (None, _) => quote!(::nnsight::__private::sites(#handle, &#tracer)),
        (Some(prompt), Form::Generate) => names.sites(Some(prompt), Settings::default()),
        (Some(prompt), _) => names.sites(Some(prompt), settings),
    };
    let end = match (form, on_token) {
        (Form::Trace | Form::Generate | Form::Session, None) => quote_spanned!(last=> ::nnsight::__private::run(#handle, &#tracer, #outcome)),
        (Form::Trace | Form::Generate | Form::Session, Some(on_token)) => {
            quote_spanned!(last=> ::nnsight::__private::stream(#handle, &#tracer, #outcome, #on_token))
        }
        (Form::Graph, _) => quote_spanned!(last=> ::nnsight::__private::graph(&#tracer, #outcome)),
        (Form::Scan, _) => quote_spanned!(last=> ::nnsight::__private::scan(#handle, &#tracer, #outcome)),
        (Form::Edit, _) => quote_spanned!(last=> ::nnsight::__private::edit(#handle, &#tracer, #outcome)),
    };
    quote!({
        let #handle = &#model;
        let #tracer = ::nnsight::__private::tracer(#handle);
        #declared
        let #outcome = {
            #[allow(unused_imports)]
            use ::nnsight::__private::block::*;
            #[allow(unused_variables)]
            let #name = #sites;
            #(#statements)*
        };
        let result = #end;
        result
    })
}

/// One block for every point.
pub fn sweep(sweep: Sweep, form: Form, errors: &mut Errors) -> TokenStream {
    let Sweep { name, model, prompt, mut settings, points } = sweep;
    let mut points = Points::new(points, errors);
    order::check_block(&points.body, errors);
    let names = Names::new(name.clone(), &model, Form::Trace);
    let of_model = OfModel::of_block(&name.to_string(), [&points.body]);
    Rewrite::new(Some(&names), &of_model, errors).block(&mut points.body);
    let Names { handle, tracer, .. } = &names;
    let all = points.all(errors);
    let (pattern, statements) = (&points.pattern, &points.body.stmts);
    let last = points.body.stmts.last().map_or_else(Span::call_site, |last| last.span());
    let outcome = Ident::new("outcome", Span::mixed_site().located_at(last));
    let file = if form == Form::Trace { settings.take("checkpoint") } else { None };
    let checkpoint = match file {
        None => quote!(::std::option::Option::None),
        Some(file) => quote_spanned!(file.span()=> ::std::option::Option::Some(::std::convert::AsRef::<::std::path::Path>::as_ref(&#file))),
    };
    for (name, _) in &settings.0 {
        if form == Form::Graph {
            errors.add(name.span(), "a graph has no settings: the file of a sweep is for `sweep!`, which runs it");
            continue;
        }
        errors.add(name.span(), "a sweep has one setting, the file where its results are kept: `checkpoint = \"grid.safetensors\"`");
    }
    let prompts = quote!(let prompts = ::nnsight::__private::sweep_on(#handle, &#tracer, #prompt););
    let sites = quote_spanned!(prompt.span()=> ::nnsight::__private::point(#handle, &#tracer, &prompts));
    // A prompt that is not the same at all points is made at each.
    let (for_all, for_each) = if points.bind(&prompt) { (None, Some(prompts)) } else { (Some(prompts), None) };
    let end = match form {
        Form::Graph => quote_spanned!(last=> ::nnsight::__private::swept(&#tracer, sizes, #outcome)),
        _ => quote_spanned!(last=> ::nnsight::__private::sweep(#handle, &#tracer, sizes, #outcome, #checkpoint)),
    };
    quote!({
        let #handle = &#model;
        let #tracer = ::nnsight::__private::tracer(#handle);
        let (points, sizes) = #all.into_parts();
        #for_all
        let mut #outcome = ::std::vec::Vec::new();
        for #pattern in points {
            #for_each
            #[allow(unused_imports)]
            use ::nnsight::__private::block::*;
            #outcome.push({
                #[allow(unused_variables)]
                let #name = #sites;
                #(#statements)*
            });
        }
        let result = #end;
        result
    })
}

/// A block on prompts of its own inside of a trace.
pub fn invoke(invoke: Invoke, names: &Names) -> TokenStream {
    let Invoke { prompt, settings, body } = invoke;
    let model = &names.model;
    let sites = names.sites(prompt.as_ref(), settings);
    let statements = &body.stmts;
    quote!({
        #[allow(unused_variables)]
        let #model = #sites;
        #(#statements)*
    })
}

pub fn function(mut function: ItemFn, errors: &mut Errors) -> TokenStream {
    let of_model = OfModel::of_function(&function.sig, &function.block);
    let mut rewrite = Rewrite::new(None, &of_model, errors);
    rewrite.returns_place = matches!(&function.sig.output, syn::ReturnType::Type(_, ty) if bind::names_place(ty));
    rewrite.block(&mut function.block);
    let ItemFn { attrs, vis, sig, block, .. } = function;
    let Block { stmts, .. } = *block;
    quote! {
        #(#attrs)*
        #vis #sig {
            #[allow(unused_imports)]
            use ::nnsight::__private::block::*;
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
