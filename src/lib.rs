//! Open a language model's forward pass: read any activation, replace it, compare. Checked by the compiler.
//!
//! Start with [`trace!`] and the programs in `examples/`. The crate itself only puts together the core, the models and the macros.

pub use candle_core;
pub use nnsight_core::{dim, graph, kernels, module, plan, run, trace, types};
pub use nnsight_macros::{Module, Save, graph, intervene, invoke, signature, trace};
pub use nnsight_models::{self as models, Error, Result, gpt2, llama};

pub use nnsight_core::__private;

/// Everything that a program with traces needs.
pub mod prelude {
    pub use candle_core::{DType, Device};
    pub use nnsight_core::dim;
    pub use nnsight_core::graph::{Graph, Prompt};
    pub use nnsight_core::trace::{Layers, Site, SitePart, Traced, Value, cat, effect, stack};
    pub use nnsight_core::types::{
        Batch, Bool, Dynamic, Float, HasLayer, HeadDim, Heads, HeadsHidden, Hidden, Int, Key, KvHeads, KvHidden, Mlp, One, Part, Query, Seq,
        Signature, Stacked, Tensor, Vocab,
    };
    pub use nnsight_macros::{Save, graph, intervene, invoke, trace};
    pub use nnsight_models::{
        CausalAttention, CausalBlock, CausalLm, Gpt2, Gpt2Large, Gpt2Medium, Gpt2Small, Gpt2Xl, Llama, Llama3_1_8B, Llama3_1_70B, Llama3_1_405B,
        Llama3_2_1B, Llama3_2_3B, SmolLm2_1_7B, SmolLm2_135M, SmolLm2_360M, Source, TinyLlama_1_1B,
    };
}
