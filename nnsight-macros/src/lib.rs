//! The macros of nnsight. Use them through the `nnsight` crate.
//!
//! `trace!` and `#[intervene]` rewrite syntax only: assignments to places, literal layer indices, `if` on a value, `invoke!`. Names and
//! shapes are checked by rustc, at the user's own tokens.

mod errors;
mod module;
mod save;
mod signature;
mod trace;

use proc_macro::TokenStream;

/// Records a block as a graph, runs it on a model, and gives back what the block ends with, as a `Result`.
///
/// `trace!(model, prompt, { … })`, or `trace!(model, { … })` with one or several [`invoke!`] inside. In the block, the model's name stands
/// for its sites.
#[proc_macro]
pub fn trace(input: TokenStream) -> TokenStream {
    trace::expand(input.into(), trace::Outcome::Run).into()
}

/// Records a block as [`trace!`] does, and gives back the graph instead of running it.
#[proc_macro]
pub fn graph(input: TokenStream) -> TokenStream {
    trace::expand(input.into(), trace::Outcome::Graph).into()
}

/// Inside of [`trace!`]: a block on a prompt of its own, `invoke!(prompt, { … })`. Values may cross from one to another.
#[proc_macro]
pub fn invoke(input: TokenStream) -> TokenStream {
    trace::stray_invoke(input.into()).into()
}

/// Makes a function that can be called from a trace: in its body, assignments to sites, `if` on a value and literal layer indices mean
/// what they mean in [`trace!`].
#[proc_macro_attribute]
pub fn intervene(arguments: TokenStream, item: TokenStream) -> TokenStream {
    trace::intervene(arguments.into(), item.into()).into()
}

/// Makes a struct of submodules a module, every part of which is a site.
#[proc_macro_derive(Module, attributes(module, child, tap))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    module::expand(input.into()).into()
}

/// Lets a block end with a struct of values; what comes back is a struct of tensors, named with `Saved` behind.
#[proc_macro_derive(Save)]
pub fn derive_save(input: TokenStream) -> TokenStream {
    save::expand(input.into()).into()
}

/// Declares the signature of a checkpoint from its `config.json`, which is read while compiling:
/// `signature!(pub SmolLm2_135M: Llama = "configs/smollm2-135m.json")`.
#[proc_macro]
pub fn signature(input: TokenStream) -> TokenStream {
    signature::expand(input.into()).into()
}
