//! The names that the sites of a module have on every architecture: `#[common(CausalBlock<Attention> { resid_pre: input, resid_mid, … })]`.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Lifetime, Token};

use super::parse::Module;

/// The names of sites that not every architecture has, and their traits: what is made of experts has no neurons of its own.
const OPTIONAL: [(&str, &str); 2] = [("CausalBlock", "mlp_pre"), ("CausalBlock", "mlp_post")];

/// A trait of such names, and the sites that have them.
pub struct Common {
    of: Ident,
    /// What differs from one architecture to the other.
    own: Own,
    names: Vec<(Ident, Punctuated<Ident, Token![.]>)>,
}

enum Own {
    /// The struct of sites of a layer.
    Block(Ident),
    /// The struct of sites of an attention.
    Attention(Ident),
    /// The axis of the heads of keys and values.
    KvHeads(Ident),
}

impl Parse for Common {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let of: Ident = input.parse()?;
        let own = match of.to_string().as_str() {
            "CausalLm" => Own::Block,
            "CausalBlock" => Own::Attention,
            "CausalAttention" => Own::KvHeads,
            _ => {
                let known = "common names are those of `CausalLm<Block>`, `CausalBlock<Attention>` and `CausalAttention<KvHeads>`";
                return Err(syn::Error::new(of.span(), format!("{known}, and `{of}` is none of them")));
            }
        };
        input.parse::<Token![<]>()?;
        let own = own(input.parse()?);
        input.parse::<Token![>]>()?;
        let content;
        syn::braced!(content in input);
        let mut names = Vec::new();
        while !content.is_empty() {
            let name: Ident = content.parse()?;
            let path = match content.parse::<Option<Token![:]>>()? {
                Some(_) => Punctuated::parse_separated_nonempty(&content)?,
                None => Punctuated::from_iter([name.clone()]),
            };
            names.push((name, path));
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        Ok(Common { of, own, names })
    }
}

pub fn expand(module: &Module, lifetime: &Lifetime, signature: &Ident) -> TokenStream {
    let sites = &module.sites;
    let impls = module.common.iter().map(|Common { of, own, names }| {
        let own = match own {
            Own::Block(sites) => quote!(type Block = #sites<#lifetime, #signature>;),
            Own::Attention(sites) => quote!(type Attention = #sites<#lifetime, #signature>;),
            Own::KvHeads(axis) => quote!(type KvHeads = #axis;),
        };
        let fields = names.iter().map(|(name, path)| quote!(#name: self.#path));
        // Asking for a name that the architecture has no site for is refused at the line that does.
        let has = |optional: &str| names.iter().any(|(name, _)| name == optional);
        let absent = OPTIONAL.iter().filter(|(trait_name, name)| of == trait_name && !has(name)).map(|(_, name)| format_ident!("{name}"));
        let absent = absent.collect::<Vec<_>>();
        let refusals = absent.iter().map(|name| {
            let text = name.to_string();
            quote! {
                #[track_caller]
                fn #name(&self) -> ::nnsight::__private::Neurons<#lifetime, #signature> {
                    self.__module.get(#text)
                }
            }
        });
        let paths = names.iter().map(|(name, path)| {
            let path = path.iter().map(Ident::to_string).collect::<Vec<_>>().join(".");
            let name = name.to_string();
            quote!((#name, #path))
        });
        let names = format_ident!("{of}Names");
        quote! {
            impl<#lifetime, #signature: ::nnsight::__private::Signature> ::nnsight::__private::#of<#lifetime, #signature> for #sites<#lifetime, #signature> {
                #own
                const PATHS: &'static [(&'static str, &'static str)] = &[#(#paths),*];
                fn names(&self) -> ::nnsight::__private::#names<#lifetime, #signature, Self> {
                    ::nnsight::__private::#names { #(#fields,)* #(#absent: self.__module.absent(),)* }
                }
                #(#refusals)*
            }
        }
    });
    quote!(#(#impls)*)
}
