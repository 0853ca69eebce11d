//! `derive(Save)`: a struct of values is saved as a struct of tensors.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::visit_mut::VisitMut;
use syn::{Data, DeriveInput, Fields, GenericParam, Lifetime};

pub fn expand(input: TokenStream) -> TokenStream {
    syn::parse2(input).and_then(|input| derive(&input)).unwrap_or_else(|error| error.to_compile_error())
}

fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let DeriveInput { ident, vis, generics, .. } = input;
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(ident, "only a struct can be saved"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(ident, "only a struct with named fields can be saved"));
    };
    let Some(lifetime) = generics.lifetimes().next().map(|parameter| parameter.lifetime.clone()) else {
        return Err(syn::Error::new_spanned(ident, format!("values borrow their trace: write `struct {ident}<'t, …>`")));
    };
    let saved = format_ident!("{ident}Saved");
    let mut kept = generics.clone();
    kept.params = generics.params.iter().filter(|parameter| !matches!(parameter, GenericParam::Lifetime(_))).cloned().collect();
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let (_, kept_types, kept_where) = kept.split_for_impl();
    let names = fields.named.iter().map(|field| &field.ident).collect::<Vec<_>>();
    let visibilities = fields.named.iter().map(|field| &field.vis);
    let docs = fields.named.iter().map(|field| field.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).collect::<Vec<_>>());
    let docs = docs.map(|docs| quote!(#(#docs)*));
    let types = fields.named.iter().map(|field| &field.ty).collect::<Vec<_>>();
    let outside = types.iter().map(|ty| {
        let mut ty = (*ty).clone();
        ReplaceLifetime { from: &lifetime }.visit_type_mut(&mut ty);
        ty
    });
    let index = (0..names.len()).map(syn::Index::from).collect::<Vec<_>>();
    let doc = format!("What a trace gives back for a [`{ident}`].");
    Ok(quote! {
        #[doc = #doc]
        #vis struct #saved #kept #kept_where {
            #(#docs #visibilities #names: <#outside as ::nnsight::__private::Save<'static>>::Saved,)*
        }
        impl #impl_generics ::nnsight::__private::Save<#lifetime> for #ident #type_generics #where_clause {
            type Saved = #saved #kept_types;
            type Form = (#(<#types as ::nnsight::__private::Save<#lifetime>>::Form,)*);
            fn register(self, saves: &mut ::std::vec::Vec<::nnsight::__private::NodeId>) -> Self::Form {
                (#(::nnsight::__private::Save::register(self.#names, saves),)*)
            }
            fn collect(form: Self::Form, results: &mut ::nnsight::__private::Results) -> ::nnsight::__private::Result<Self::Saved> {
                let found = (#(<#types as ::nnsight::__private::Save<#lifetime>>::collect(form.#index, results),)*);
                ::core::result::Result::Ok(#saved { #(#names: found.#index?,)* })
            }
        }
    })
}

struct ReplaceLifetime<'a> {
    from: &'a Lifetime,
}

impl VisitMut for ReplaceLifetime<'_> {
    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == self.from.ident {
            *lifetime = Lifetime::new("'static", lifetime.span());
        }
    }
}
