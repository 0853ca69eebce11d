//! `signature!`: the constants of a checkpoint, from its own `config.json`.

use std::path::PathBuf;

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use serde_json::Value;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Ident, LitStr, Path, Token, Visibility};

/// `pub SmolLm2_135M: Llama = "configs/smollm2-135m.json"`
struct Declaration {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    name: Ident,
    architecture: Path,
    file: LitStr,
}

impl Parse for Declaration {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        let architecture = input.parse()?;
        input.parse::<Token![=]>()?;
        let file = input.parse()?;
        Ok(Declaration { attributes, visibility, name, architecture, file })
    }
}

pub fn expand(input: TokenStream) -> TokenStream {
    syn::parse2(input).and_then(|declaration| declare(&declaration)).unwrap_or_else(|error| error.to_compile_error())
}

fn declare(declaration: &Declaration) -> syn::Result<TokenStream> {
    let Declaration { attributes, visibility, name, architecture, file } = declaration;
    let at_file = |message: String| syn::Error::new_spanned(file, message);
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| at_file("`CARGO_MANIFEST_DIR` is not set; build with cargo".into()))?;
    let text = std::fs::read_to_string(PathBuf::from(folder).join(file.value()))
        .map_err(|error| at_file(format!("cannot read `{}` (looked for from the folder of Cargo.toml): {error}", file.value())))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| at_file(format!("`{}` is not JSON: {error}", file.value())))?;

    if let (Some(found), Some(wanted)) = (config["model_type"].as_str(), architecture.segments.last())
        // Of models that read pictures too, the part that reads text has a name of its own.
        && found.strip_suffix("_text").unwrap_or(found).replace('_', "") != wanted.ident.to_string().to_lowercase()
    {
        return Err(syn::Error::new_spanned(architecture, format!("`{}` is the config of a `{found}`, not of a `{}`", file.value(), wanted.ident)));
    }
    let optional = |names: &[&str]| names.iter().find_map(|name| config[*name].as_u64()).map(|size| size as usize);
    let required = |names: &[&str]| optional(names).ok_or_else(|| at_file(format!("`{}` has no `{}`", file.value(), names.join("` or `"))));
    let hidden = required(&["hidden_size", "n_embd"])?;
    let heads = required(&["num_attention_heads", "n_head"])?;
    let layers = required(&["num_hidden_layers", "n_layer"])?;
    let vocab = required(&["vocab_size"])?;
    let context = required(&["max_position_embeddings", "n_positions", "n_ctx"])?;
    let mlp = optional(&["intermediate_size", "n_inner"]).unwrap_or(hidden.saturating_mul(4));
    let kv_heads = optional(&["num_key_value_heads"]).unwrap_or(heads);
    if heads == 0 || kv_heads == 0 {
        return Err(at_file(format!("`{}` has no attention heads", file.value())));
    }
    let head_dim = optional(&["head_dim"]).unwrap_or(hidden / heads);
    // The loader is stricter, and says which size it is.
    if [hidden, heads, kv_heads, head_dim, layers, vocab, context, mlp].iter().any(|&size| size == 0 || size > 1 << 24) || layers > 1 << 12 {
        return Err(at_file(format!("`{}` has impossible sizes", file.value())));
    }
    let (heads_hidden, kv_hidden) = (heads * head_dim, kv_heads * head_dim);
    let qkv = heads_hidden + 2 * kv_hidden;

    let text_name = name.to_string();
    let indices = (0..layers as isize).chain(-(layers as isize)..0).map(Literal::isize_unsuffixed);
    let path = file.value();
    Ok(quote! {
        #(#attributes)*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #visibility struct #name;
        impl ::nnsight::__private::Signature for #name {
            const NAME: &'static str = #text_name;
            const SIZES: ::core::option::Option<&'static [(&'static str, usize)]> = ::core::option::Option::Some(&[
                ("Hidden", #hidden), ("Mlp", #mlp), ("Heads", #heads), ("KvHeads", #kv_heads), ("HeadDim", #head_dim),
                ("HeadsHidden", #heads_hidden), ("KvHidden", #kv_hidden), ("Qkv", #qkv), ("Vocab", #vocab), ("Context", #context),
                ("Layers", #layers),
            ]);
        }
        impl ::nnsight::__private::Describes<#architecture<#name>> for #name {}
        #(impl ::nnsight::__private::HasLayer<{ #indices }> for #name {})*
        // Compiles this anew when the file changes.
        const _: &str = ::core::include_str!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", #path));
    })
}
