//! The macros of nnsight. Use them through the `nnsight` crate.
//!
//! `trace!`, its kin and `#[intervene]` rewrite syntax only: assignments to places, literal layer indices, `if` and `match` on a value,
//! `invoke!`. Names and shapes are checked by rustc, at the user's own tokens.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod errors;
mod module;
mod save;
mod signature;
#[cfg(test)]
mod snapshot;
mod trace;

use proc_macro::TokenStream;

/// Records a block as a graph, runs it on a model, and gives back what the block ends with, as a `Result`.
///
/// `trace!(model, prompt, { … })`, or `trace!(model, { … })` with one or several [`invoke!`] inside. In the block, the model's name stands
/// for its sites.
#[proc_macro]
pub fn trace(input: TokenStream) -> TokenStream {
    trace::expand(input.into(), trace::Form::Trace).into()
}

/// As [`trace!`], and continues the prompts: `generate!(model, prompt, max_new_tokens = 20, temperature = 0.7, { … })`.
///
/// The settings are the methods of `Generation`; `settings = …` starts from one, and `on_token = |token| …` is called for every token as it
/// comes. In the block, the model's own sites are those of step 0, the prompt's pass; `model.step(2)`, `model.steps(..)` are the others, and
/// `model.tokens()` is what was generated.
#[proc_macro]
pub fn generate(input: TokenStream) -> TokenStream {
    trace::expand(input.into(), trace::Form::Generate).into()
}

/// Runs several traces as one: `session!(model, { let a = trace!(model, prompt, { … }); … })`. The inner blocks give their values, not
/// results, and values go from one to the next without leaving the graph.
#[proc_macro]
pub fn session(input: TokenStream) -> TokenStream {
    trace::expand(input.into(), trace::Form::Session).into()
}

/// Runs one block for every point, as one experiment: what the points have in common is run once, and the rest side by side.
///
/// `sweep!(model, prompt, for (layer, position) in grid(0..model.depth(), 0..14) { … })` gives a tensor with an axis for each of the grid's
/// before those of the block's value. `grid` takes up to three iterators; any other expression is one axis; a loop whose block is another loop
/// is the same as a grid. An edit may reach nothing at some points, but not at all of them.
///
/// The prompt may be one of the things that the loop goes over: `sweep!(model, prompt, for (prompt, layer) in grid(prompts, 0..30) { … })`. Prompts
/// of about the same length are run side by side.
///
/// On a terminal it says how far it is. With `checkpoint = "grid.safetensors"` before the loop, results are kept in that file as they come, and
/// a program that was interrupted goes on from there; a file of another sweep is refused. The file does not know the model's weights, nor the
/// edits of a view: give each of those a file of its own.
#[proc_macro]
pub fn sweep(input: TokenStream) -> TokenStream {
    trace::sweep(input.into(), trace::Form::Trace).into()
}

/// Makes an edited view of a model: `let ablated = edit!(model, { model.layers[4].mlp.output = 0.0 })?`. The model itself is untouched.
#[proc_macro]
pub fn edit(input: TokenStream) -> TokenStream {
    trace::expand(input.into(), trace::Form::Edit).into()
}

/// Checks a block as [`trace!`] would, and gives the kinds and sizes of what it would save. Nothing is computed, and no weights are needed.
#[proc_macro]
pub fn scan(input: TokenStream) -> TokenStream {
    trace::expand(input.into(), trace::Form::Scan).into()
}

/// Records a block as [`trace!`] does, and gives back the graph instead of running it.
///
/// `graph!(model, prompt, for layer in 0..30 { … })` gives the graph of a [`sweep!`], for `explain` to say what it would cost, or to be stored.
#[proc_macro]
pub fn graph(input: TokenStream) -> TokenStream {
    trace::graph(input.into()).into()
}

/// Inside of [`trace!`] or [`generate!`]: a block on a prompt of its own, `invoke!(prompt, { … })`, or on all prompts side by side,
/// `invoke!({ … })`. Values may cross from one to another.
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
///
/// With `#[module(config = LlamaConfig)]` it is read from a checkpoint too: every child under its field's name, or under that of
/// `#[child(name = "model.norm")]`. What else a child is to know follows as `#[child(epsilon = config.epsilon)]`, and a field that is not a module has
/// `#[value(config.heads)]`; both may use `config`, the config, and `loader`, the place in the checkpoint.
///
/// `#[common(CausalBlock<Attention> { resid_pre: input, resid_mid, … })]` says which of its sites have the names that every architecture has.
#[proc_macro_derive(Module, attributes(module, child, tap, value, common))]
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
