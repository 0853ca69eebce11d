//! Open a language model's forward pass: read any activation, replace it, compare. Checked by the compiler.
//!
//! ```no_run
//! use nnsight::prelude::*;
//!
//! fn main() -> nnsight::Result<()> {
//!     let model = Llama::<SmolLm2_135M>::load(Source::default())?;
//!     let (hidden, logits) = trace!(model, "The Eiffel Tower is in the city of", {
//!         model.layers[5].mlp.output *= 0.0; // set, in place
//!         model.layers[10].output.at(Seq, -1) += 2.0; // one position of a site
//!         (model.layers[-1].output, model.lm_head.output) // the block's value is what is saved
//!     })?;
//!     println!("{hidden:?}");
//!     println!("{}", model.tokenizer().decode_top(&logits.at(Seq, -1), 5)?);
//!     Ok(())
//! }
//! ```
//!
//! | to do this | look here |
//! |---|---|
//! | trace a block, one or several prompts | [`trace!`], [`invoke!`] |
//! | continue prompts, look at every step | [`generate!`], [`graph::Generation`](struct@graph::Generation), [`trace::Generating`] |
//! | take gradients, edit them | [`trace::Gradient`], [`models::integrated_gradients`] |
//! | skip a module, end a run | `model.layers[3].skip(…)`, [`stop!`] |
//! | repeat while a value says so | [`trace::while_loop`], [`trace::fold`] |
//! | edit a model for good, or a view of it | [`edit!`], [`trace::Edits`] |
//! | shapes without computing, or without weights | [`scan!`], [`models::LanguageModel::meta`] |
//! | keep what many modules give | [`trace::Keep`], [`trace::Cache`] |
//! | several traces as one | [`session!`] |
//! | one block for every layer, position, head … | [`sweep!`] |
//! | put a module of your own into a model | [`models::LanguageModel::attach`], [`module::Role`] |
//! | use other names | [`models::Loaded::alias`], [`models::HookedTransformer`] |
//! | compute what is not there | [`trace::Traced::apply`](trait@trace::Traced), [`graph::Operation`] |
//! | see what a model has | `println!("{model}")`, [`models::Loaded::tree`] |
//! | calculate with values | [`trace::Traced`](trait@trace::Traced) |
//! | write a reusable intervention | [`intervene`], [`models::CausalLm`] |
//! | save a struct | [`derive(Save)`](macro@Save) |
//! | keep a trace as data, send or draw it | [`graph!`], [`graph::Graph`](struct@graph::Graph) |
//! | run graphs of others, within limits | [`graph::Limits`](struct@graph::Limits), [`models::LanguageModel::with_limits`] |
//! | load a checkpoint | [`models::Source`], [`models::LanguageModel::load`] |
//! | declare a checkpoint of your own | [`signature!`] |
//! | write a model of your own | [`derive(Module)`](macro@Module), [`module`] |
//!
//! The crate itself only puts together the core, the models, the kernels and the macros.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub use candle_core;
pub use nnsight_core::Error as TraceError;
pub use nnsight_core::{dim, model_dims, module, observer, outside, plan, position_dims, sites, stop};
pub use nnsight_kernels as kernels;
pub use nnsight_macros::{Module, Save, edit, generate, graph, intervene, invoke, scan, session, signature, sweep, trace};
pub use nnsight_models::architectures::*;
pub use nnsight_models::{self as models, Error, Result};

/// What generated code calls. Not for use by hand: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use nnsight_models::__private::*;

    /// The traits whose methods a block calls, without names that could meet the user's.
    pub mod block {
        pub use nnsight_core::__private::block::*;
        pub use nnsight_lm::{ByHead as _, LanguageSteps as _};
    }
}

/// Graphs: an experiment as data, and the prompts that it runs on.
pub mod graph {
    pub use nnsight_core::graph::*;
    pub use nnsight_lm::{Chat, ChatEnd, Generation, Message, Prompt, PromptProblem};
}

/// Running graphs inside of forward passes, and what language models are given there.
pub mod run {
    pub use nnsight_core::batch::AnyBatch;
    pub use nnsight_core::run::*;
    #[allow(deprecated)]
    pub use nnsight_lm::Past;
    pub use nnsight_lm::{KvCache, Token, TokenBatch, TokenInputs, Vocabulary};
}

/// What the compiler knows of a value: the model it belongs to, its axes and its kind.
pub mod types {
    pub use nnsight_core::types::*;
    pub use nnsight_lm::{
        Chosen, Context, ExpertMlp, ExpertSizes, Experts, HasHeads, HeadDim, Heads, HeadsHidden, Hidden, Key, KvHeads, KvHidden, Mlp, Qkv, Query,
        Seq, Sizes, Vocab,
    };
}

/// Tracing: a block of ordinary Rust becomes a graph.
pub mod trace {
    pub use nnsight_core::module::{Attach, Attached, NetworkWithAttachment, SitesWithAttachment};
    pub use nnsight_core::trace::*;
    pub use nnsight_lm::{ByHead, Encoder, IntoPrompts, Language, LanguageSteps, NoGeneration, PromptKind};
}

/// Everything that a program with traces needs.
pub mod prelude {
    pub use candle_core::{DType, Device};
    pub use nnsight_core::graph::Graph;
    pub use nnsight_core::plan::Optimizations;
    pub use nnsight_core::trace::{
        Cache, ContinueIf, Edited, Edits, Gradient, Keep, Layers, Over, Site, SitePart, Step, Traced, Value, cat, effect, fold, stack, while_loop,
    };
    #[allow(deprecated)]
    pub use nnsight_core::trace::{GoOnIf, repeat_while};
    pub use nnsight_core::types::{Batch, Bool, Dynamic, Float, HasLayer, Int, One, Part, Signature, Stacked, Tensor};
    pub use nnsight_core::{dim, stop};
    // By their methods, without names that could meet the user's.
    pub use nnsight_lm::{ByHead as _, LanguageSteps as _};
    pub use nnsight_lm::{
        Chat, ChatEnd, Chosen, ExpertMlp, Experts, Generation, HeadDim, Heads, HeadsHidden, Hidden, Key, KvHeads, KvHidden, Message, Mlp, Prompt,
        Query, Seq, Vocab,
    };
    pub use nnsight_macros::{Save, edit, generate, graph, intervene, invoke, scan, session, sweep, trace};
    pub use nnsight_models::architectures::handles::*;
    pub use nnsight_models::signatures::*;
    pub use nnsight_models::{
        CausalAttention, CausalBlock, CausalLm, HookedAttention, HookedBlock, HookedTransformer, Source, WeightFormat, integrated_gradients,
    };
}
