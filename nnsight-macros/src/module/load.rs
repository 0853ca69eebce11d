//! How a module is read from a checkpoint: its children by their names there, its other fields from the config.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{Expr, Field, Ident, Token, Type};

use super::parse::{ChildArguments, Module, element_of_list, is_named};
use crate::errors::Errors;

/// How a module is read from a checkpoint.
pub struct Load {
    /// The type of the config.
    config: Type,
    fields: Vec<(Ident, How)>,
}

enum How {
    Child {
        ty: Type,
        path: String,
        options: Vec<(Ident, Expr)>,
    },
    List {
        ty: Type,
        count: Option<Box<Type>>,
        path: String,
        options: Vec<(Ident, Expr)>,
    },
    Value(Expr),
    /// A place or a marker.
    Default,
}

impl Load {
    /// Reads the fields of a module with `config = …`; notes what is wrong with them.
    pub fn new(config: Option<Type>, fields: &Punctuated<Field, Token![,]>, errors: &mut Errors) -> Option<Self> {
        let Some(config) = config else {
            fields.iter().for_each(|field| refuse(field, errors));
            return None;
        };
        let fields = fields.iter().filter_map(|field| Some((field.ident.clone()?, how(field, errors)?)));
        Some(Load { config, fields: fields.collect() })
    }
}

fn how(field: &Field, errors: &mut Errors) -> Option<How> {
    let name = field.ident.as_ref()?;
    let attribute = |name: &str| field.attrs.iter().find(|attribute| attribute.path().is_ident(name));
    if let Some(value) = attribute("value") {
        return errors.keep(value.parse_args()).map(How::Value);
    }
    if let Some(child) = attribute("child") {
        // What is wrong with it is said where its sites are read.
        let ChildArguments { name: path, options, count, .. } = ChildArguments::of(child).ok()?;
        let path = path.map_or_else(|| name.to_string(), |path| path.value());
        return Some(match element_of_list(&field.ty) {
            Some(ty) => How::List { ty, count: count.map(Box::new), path, options },
            None => How::Child { ty: field.ty.clone(), path, options },
        });
    }
    if is_named(&field.ty, "Place") || is_named(&field.ty, "PhantomData") {
        return Some(How::Default);
    }
    errors.add(name.span(), format!("`{name}` is neither a child nor the place, and so has to say what it is: `#[value(config.{name})]`"));
    None
}

/// Refuses what says how a module is read, on one that is not.
fn refuse(field: &Field, errors: &mut Errors) {
    const MISSING: &str = "says how the module is read from a checkpoint, which needs `#[module(config = …)]` with the type of its config";
    for attribute in &field.attrs {
        if attribute.path().is_ident("value") {
            errors.push(syn::Error::new_spanned(attribute, format!("`value` {MISSING}")));
        } else if attribute.path().is_ident("child")
            && let Ok(ChildArguments { name, options, .. }) = ChildArguments::of(attribute)
        {
            if let Some(name) = name {
                errors.add(name.span(), format!("`name` {MISSING}"));
            }
            options.iter().for_each(|(option, _)| errors.add(option.span(), format!("`{option}` {MISSING}")));
        }
    }
}

pub fn expand(module: &Module) -> Option<TokenStream> {
    let Load { config, fields } = module.load.as_ref()?;
    let name = &module.name;
    let (impl_generics, type_generics, where_clause) = module.generics.split_for_impl();
    let read = |ty: &Type, options: &[(Ident, Expr)]| {
        let load = quote!(<#ty as ::nnsight::__private::Load<#config>>);
        match options {
            [] => quote!(|loader| #load::load(loader, ::core::default::Default::default())),
            options => {
                let set = options.iter().map(|(option, value)| quote!(options.#option = #value;));
                quote! {
                    |loader| {
                        let mut options: #load::Options = ::core::default::Default::default();
                        #(#set)*
                        #load::load(loader, options)
                    }
                }
            }
        }
    };
    // Fields called `config` or `loader` do not hide these from the fields after them.
    let local = |field: &Ident| format_ident!("__{field}");
    let values = fields.iter().map(|(field, how)| {
        let value = match how {
            How::Child { ty, path, options } => {
                let read = read(ty, options);
                quote!(loader.child(#path, #read)?)
            }
            How::List { ty, count, path, options } => {
                let (read, count) = (read(ty, options), super::expand::count_type(count.as_deref()));
                quote!(loader.list::<#count, _>(#path, #read)?)
            }
            How::Value(value) => quote!(#value),
            How::Default => quote!(::core::default::Default::default()),
        };
        let local = local(field);
        quote!(let #local = #value;)
    });
    let names = fields.iter().map(|(field, _)| {
        let local = local(field);
        quote!(#field: #local)
    });
    Some(quote! {
        impl #impl_generics ::nnsight::__private::Load<#config> for #name #type_generics #where_clause {
            type Options = ();
            #[allow(unused_variables)]
            fn load(
                loader: &mut ::nnsight::__private::Loader<'_, #config>,
                options: Self::Options,
            ) -> ::nnsight::__private::LoadResult<Self> {
                let config = loader.config();
                #(#values)*
                ::core::result::Result::Ok(#name { #(#names,)* })
            }
        }
    })
}
