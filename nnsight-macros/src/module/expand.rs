//! What `derive(Module)` writes: the struct of sites, and how to find them.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::parse::{Element, Mixes, Module, Shape, What};
use super::{common, load};

pub fn module(module: &Module) -> TokenStream {
    let sites = sites_struct(module);
    let instrument = instrument(module);
    let pointwise = pointwise(module);
    let taps = taps(module);
    let belongs = belongs_to(module);
    let load = load::expand(module);
    let common = common::expand(module, &lifetime(module), &signature(module));
    quote!(#sites #instrument #belongs #pointwise #taps #load #common)
}

impl Shape {
    fn kind(&self) -> TokenStream {
        match &self.kind {
            Some(kind) => quote!(::nnsight::__private::#kind),
            None => quote!(::nnsight::__private::Float),
        }
    }
}

impl Mixes {
    fn mixing(&self) -> TokenStream {
        match self {
            Mixes::Causal => quote!(Causal),
            Mixes::All => quote!(All),
            Mixes::Scan => quote!(Scan),
            Mixes::Window(size) => quote!(Window(#size)),
        }
    }
}

/// A name for a parameter of generated code that none of the struct's own parameters has.
fn fresh(module: &Module, name: &str) -> Ident {
    let is_taken = |name: &str| {
        module.generics.params.iter().any(|parameter| match parameter {
            syn::GenericParam::Lifetime(lifetime) => lifetime.lifetime.ident == name,
            syn::GenericParam::Type(ty) => ty.ident == name,
            syn::GenericParam::Const(constant) => constant.ident == name,
        })
    };
    let mut name = name.to_string();
    while is_taken(&name) {
        name.push('_');
    }
    format_ident!("{name}")
}

/// The lifetime of the trace.
fn lifetime(module: &Module) -> syn::Lifetime {
    syn::Lifetime::new(&format!("'{}", fresh(module, "t")), proc_macro2::Span::call_site())
}

/// The checkpoint that types the sites: a parameter of the module, or one of its struct of sites alone.
fn signature(module: &Module) -> Ident {
    module.signature.clone().unwrap_or_else(|| fresh(module, "C"))
}

/// The parameters of the struct of sites.
fn site_generics(module: &Module) -> syn::Generics {
    let mut generics = module.generics.clone();
    let (t, signature) = (lifetime(module), signature(module));
    if module.signature.is_none() {
        let lifetimes = generics.lifetimes().count();
        generics.params.insert(lifetimes, syn::parse_quote!(#signature: ::nnsight::__private::Signature));
    }
    generics.params.insert(0, syn::parse_quote!(#t));
    generics
}

fn site_type(module: &Module, shape: &Shape) -> TokenStream {
    let (t, signature, dims, kind) = (lifetime(module), signature(module), &shape.dims, shape.kind());
    quote!(::nnsight::__private::Site<#t, #signature, #dims, #kind>)
}

/// The struct with a field for every site and every child, and a method for every child that can be applied by hand.
fn sites_struct(module: &Module) -> TokenStream {
    let Module { name, visibility, sites, ends, elements, .. } = module;
    let signature = &signature(module);
    let (t, value, shape, kind_name) = (lifetime(module), fresh(module, "V"), fresh(module, "S"), fresh(module, "K"));
    let generics = site_generics(module);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let ends = ends.as_ref().map(|(input, output)| {
        let (input, output) = (site_type(module, input), site_type(module, output));
        (quote!(#[doc = "What the module is given."] pub input: #input,), quote!(#[doc = "What the module gives."] pub output: #output,))
    });
    let (input, output) = ends.unzip();
    let fields = elements.iter().map(|Element { name, docs, what, .. }| match what {
        What::Child { ty, .. } => quote!(#(#docs)* pub #name: <#ty as ::nnsight::__private::Instrument>::Sites<#t, #signature>,),
        What::List { ty, count, .. } => {
            // Of the layers themselves it is the default.
            let count = count.iter();
            quote!(#(#docs)* pub #name: ::nnsight::__private::Layers<#t, #signature, <#ty as ::nnsight::__private::Instrument>::Sites<#t, #signature> #(, #count)*>,)
        }
        What::Tap { shape, .. } => {
            let ty = site_type(module, shape);
            let doc = format!("The value that the module calls `{name}`.");
            quote!(#[doc = #doc] pub #name: #ty,)
        }
    });
    let methods = elements.iter().filter_map(|Element { name, what, .. }| match what {
        What::Child { ty, pointwise: true } => {
            let doc = format!("Puts a value through `{name}`, wherever the pass is.\n\n# Shapes\nAny that ends with the module's input axis.");
            let (from, to) = (quote!(<#ty as ::nnsight::__private::Pointwise>::In), quote!(<#ty as ::nnsight::__private::Pointwise>::Out));
            Some(quote! {
                #[doc = #doc]
                #[must_use = "this computes a new value and changes nothing"]
                #[track_caller]
                pub fn #name<#value, #shape>(
                    &self,
                    value: #value,
                ) -> ::nnsight::__private::Value<#t, #signature, <#shape as ::nnsight::__private::EndsWith<#from, #to>>::Ended>
                where
                    #value: ::nnsight::__private::Traced<#t, #signature, #shape, ::nnsight::__private::Float>,
                    #shape: ::nnsight::__private::EndsWith<#from, #to>,
                {
                    self.#name.input.__apply::<#value, #shape, #from, #to>(value)
                }
            })
        }
        _ => None,
    });
    let skip = module.ends.as_ref().map(|(_, output)| {
        let (dims, kind) = (&output.dims, output.kind());
        quote! {
            /// Gives `value` as what the module gives; its inside is then not run, and using it is an error.
            #[track_caller]
            pub fn skip<#value: ::nnsight::__private::Assigned<#t, #signature, #dims, #kind>>(&self, value: #value) {
                self.__module.skip(self.output, value);
            }
        }
    });
    let doc = format!("The sites of a [`{name}`].");
    let parameters = generics.type_params().map(|parameter| &parameter.ident);
    quote! {
        #[doc = #doc]
        #visibility struct #sites #generics #where_clause {
            #[doc(hidden)]
            pub __module: ::nnsight::__private::ModuleHandle<#t, #signature>,
            #[doc(hidden)]
            pub __parameters: ::core::marker::PhantomData<fn() -> (#(#parameters,)*)>,
            #input
            #(#fields)*
            #output
        }
        impl #impl_generics ::core::clone::Clone for #sites #type_generics #where_clause {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl #impl_generics ::core::marker::Copy for #sites #type_generics #where_clause {}
        impl #impl_generics ::core::fmt::Debug for #sites #type_generics #where_clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple(::core::stringify!(#sites)).field(&self.__module).finish()
            }
        }
        impl #impl_generics #sites #type_generics #where_clause {
            #(#methods)*
            #skip
            /// All sites in here, with their shapes, one a line.
            pub fn sites(&self) -> ::nnsight::__private::SiteList {
                self.__module.sites()
            }
            /// All that the module is given, by name; each is a field of this struct.
            pub fn inputs(&self) -> ::nnsight::__private::SiteList {
                self.__module.inputs()
            }
            /// A site by its path from here. One that does not exist, or holds something else, makes the trace fail with this line.
            #[track_caller]
            pub fn get<#shape: ::nnsight::__private::Shape, #kind_name: ::nnsight::__private::Kind>(
                &self,
                path: &str,
            ) -> ::nnsight::__private::Site<#t, #signature, #shape, #kind_name> {
                self.__module.get(path)
            }
            /// Keeps what the modules in here are given and give; a block may end with it.
            #[track_caller]
            pub fn cache(&self, keep: &::nnsight::__private::Keep) -> ::nnsight::__private::Caching {
                self.__module.cache(keep)
            }
        }
    }
}

fn instrument(module: &Module) -> TokenStream {
    let Module { name, sites, ends, elements, place, .. } = module;
    let (impl_generics, type_generics, where_clause) = module.generics.split_for_impl();
    let (t, checkpoint) = (lifetime(module), fresh(module, "C"));
    let mut site_generics = site_generics(module);
    // The sites are typed by the checkpoint of whoever looks at them.
    let own = signature(module);
    if let Some(parameter) = site_generics.type_params_mut().find(|parameter| parameter.ident == own) {
        parameter.ident = checkpoint.clone();
    }
    let (_, site_types, _) = site_generics.split_for_impl();
    let names = elements.iter().map(|element| &element.name);
    let (input, output) = ends.as_ref().map(|_| (quote!(let input = cursor.site();), quote!(let output = cursor.site();))).unzip();
    let (input_name, output_name) = ends.as_ref().map(|_| (quote!(input,), quote!(output,))).unzip();
    let make = elements.iter().map(|Element { name, what, .. }| match what {
        What::Child { ty, .. } => quote!(let #name = <#ty as ::nnsight::__private::Instrument>::sites::<#checkpoint>(cursor);),
        What::List { ty, .. } => quote!(let #name = cursor.list(<#ty as ::nnsight::__private::Instrument>::sites::<#checkpoint>);),
        What::Tap { .. } => quote!(let #name = cursor.site();),
    });
    let attach = elements.iter().map(|Element { name, what, .. }| match what {
        What::Child { .. } => quote!(::nnsight::__private::Instrument::attach(&mut self.#name, next);),
        What::List { .. } => quote!(self.#name.iter_mut().for_each(|layer| ::nnsight::__private::Instrument::attach(layer, next));),
        What::Tap { .. } => quote!(*next += 1;),
    });
    let end = ends.as_ref().map(|_| quote!(*next += 1;));
    let describe = describe(module);
    let find = elements.iter().filter_map(find);
    let count = count(module, elements);
    quote! {
        impl #impl_generics ::nnsight::__private::Instrument for #name #type_generics #where_clause {
            type Sites<#t, #checkpoint: ::nnsight::__private::Signature> = #sites #site_types;
            const COUNT: ::core::option::Option<usize> = #count;
            #describe
            fn sites<#t, #checkpoint: ::nnsight::__private::Signature>(cursor: &mut ::nnsight::__private::Cursor<#t>) -> Self::Sites<#t, #checkpoint> {
                let __module = cursor.module();
                #input
                #(#make)*
                #output
                #sites { __module, __parameters: ::core::marker::PhantomData, #input_name #(#names,)* #output_name }
            }
            fn attach(&mut self, next: &mut usize) {
                let first = *next;
                #end
                #(#attach)*
                #end
                self.#place = ::nnsight::__private::Place::spanning(first, *next);
            }
            fn place(&self) -> ::nnsight::__private::Place {
                self.#place
            }
            #[allow(unused_variables)]
            fn find(&self, path: &str) -> ::core::option::Option<&dyn ::nnsight::__private::Forward> {
                let (name, rest) = path.split_once('.').unwrap_or((path, ""));
                match name {
                    #(#find)*
                    _ => ::core::option::Option::None,
                }
            }
        }
    }
}

/// To which checkpoints it can be attached: to that of its parameter, or to any.
fn belongs_to(module: &Module) -> TokenStream {
    let (name, checkpoint) = (&module.name, signature(module));
    let mut generics = module.generics.clone();
    if module.signature.is_none() {
        generics.params.push(syn::parse_quote!(#checkpoint: ::nnsight::__private::Signature));
    }
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, type_generics, _) = module.generics.split_for_impl();
    quote!(impl #impl_generics ::nnsight::__private::BelongsTo<#checkpoint> for #name #type_generics #where_clause {})
}

fn find(element: &Element) -> Option<TokenStream> {
    let Element { name, what, .. } = element;
    let text = name.to_string();
    match what {
        What::Child { pointwise, .. } => {
            let itself = pointwise.then(|| quote!(#text if rest.is_empty() => ::core::option::Option::Some(&self.#name),));
            Some(quote!(#itself #text => ::nnsight::__private::Instrument::find(&self.#name, rest),))
        }
        What::List { .. } => Some(quote! {
            #text => {
                let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
                let layer = self.#name.get(index.parse::<usize>().ok()?)?;
                ::nnsight::__private::Instrument::find(layer, rest)
            }
        }),
        What::Tap { .. } => None,
    }
}

fn describe(module: &Module) -> TokenStream {
    let Module { name, ends, elements, .. } = module;
    let type_name = name.to_string();
    let site = |name: &str, shape: &Shape, from: TokenStream| {
        let (dims, kind) = (&shape.dims, shape.kind());
        quote! {
            registrar.site(
                #name,
                <#kind as ::nnsight::__private::Kind>::TAG,
                <#dims as ::nnsight::__private::Shape>::fixed_axes(),
                #from,
            );
        }
    };
    let all = || quote!(::nnsight::__private::DependsOn::AllBefore);
    let (input, output) = ends.as_ref().map(|(input, output)| (site("input", input, all()), site("output", output, all()))).unzip();
    let inside = elements.iter().map(|Element { name, from, what, .. }| {
        let text = name.to_string();
        let from = match from {
            None => all(),
            Some(names) => {
                let names = names.iter().map(Ident::to_string);
                quote!(::nnsight::__private::DependsOn::Only(&[#(#names),*]))
            }
        };
        match what {
            What::Child { ty, pointwise } => {
                let axes = match pointwise {
                    true => quote!(::nnsight::__private::innermost::<#ty>()),
                    false => quote!(::core::option::Option::None),
                };
                quote!(registrar.child::<#ty>(#text, #from, #axes);)
            }
            What::List { ty, count, stages } => {
                let count = count_type(count.as_ref());
                let role = format_ident!("{}", if *stages { "Stages" } else { "Inner" });
                quote! {
                    registrar.list::<#ty>(
                        #text,
                        #from,
                        ::nnsight::__private::count_of::<#count>(),
                        ::nnsight::__private::ListRole::#role,
                    );
                }
            }
            What::Tap { shape, mixes } => {
                let site = site(&text, shape, from);
                let mixing = mixes.as_ref().map(|mixes| {
                    let mixing = mixes.mixing();
                    quote!(registrar.mixes_positions(::nnsight::__private::Mixing::#mixing);)
                });
                quote!(#site #mixing)
            }
        }
    });
    quote! {
        fn describe(
            registrar: &mut ::nnsight::__private::Registrar,
            path: &str,
            pointwise: ::core::option::Option<(::nnsight::__private::Axis, ::nnsight::__private::Axis)>,
        ) {
            registrar.begin(#type_name, path, pointwise);
            #input
            #(#inside)*
            #output
            registrar.end();
        }
    }
}

/// The size of the model that is the length of a list.
pub fn count_type(count: Option<&syn::Type>) -> TokenStream {
    count.map_or_else(|| quote!(::nnsight::__private::AllLayers), |count| quote!(#count))
}

/// The number of sites of some elements, the input included, as a list of `Option<usize>`.
fn counts<'a>(module: &Module, elements: impl IntoIterator<Item = &'a Element>) -> Vec<TokenStream> {
    let input = module.ends.as_ref().map(|_| quote!(::core::option::Option::Some(1)));
    let elements = elements.into_iter().map(|element| match &element.what {
        What::Child { ty, .. } => quote!(<#ty as ::nnsight::__private::Instrument>::COUNT),
        What::List { .. } => quote!(::core::option::Option::None),
        What::Tap { .. } => quote!(::core::option::Option::Some(1)),
    });
    input.into_iter().chain(elements).collect()
}

fn count(module: &Module, elements: &[Element]) -> TokenStream {
    if elements.iter().any(|element| matches!(element.what, What::List { .. })) {
        return quote!(::core::option::Option::None);
    }
    let counts = counts(module, elements);
    let output = module.ends.as_ref().map(|_| quote!(::core::option::Option::Some(1),));
    quote!(::core::option::Option::Some(::nnsight::__private::Tap::after(&[#(#counts,)* #output]).0))
}

fn pointwise(module: &Module) -> Option<TokenStream> {
    let Module { name, .. } = module;
    let (from, to) = module.pointwise.as_ref()?;
    let (impl_generics, type_generics, where_clause) = module.generics.split_for_impl();
    Some(quote! {
        impl #impl_generics ::nnsight::__private::Pointwise for #name #type_generics #where_clause {
            type In = #from;
            type Out = #to;
        }
    })
}

/// A constant for every tap, to be used as `cx.tap(Self::PATTERN, value)`.
fn taps(module: &Module) -> Option<TokenStream> {
    let Module { name, elements, .. } = module;
    let (impl_generics, type_generics, where_clause) = module.generics.split_for_impl();
    let taps = elements.iter().enumerate().filter(|(_, element)| matches!(element.what, What::Tap { .. }));
    let taps = taps.map(|(index, element)| {
        let tap = format_ident!("{}", element.name.to_string().to_uppercase());
        let before = counts(module, &elements[..index]);
        quote!(const #tap: ::nnsight::__private::Tap = ::nnsight::__private::Tap::after(&[#(#before),*]);)
    });
    let taps = taps.collect::<Vec<_>>();
    (!taps.is_empty()).then(|| quote!(impl #impl_generics #name #type_generics #where_clause { #(#taps)* }))
}
