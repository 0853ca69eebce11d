//! Signatures: the constants of one checkpoint, known to the compiler.

/// The sizes of a decoder-only transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Neurons of an MLP.
    pub mlp: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// `heads * head_dim`.
    pub heads_hidden: usize,
    /// `kv_heads * head_dim`.
    pub kv_hidden: usize,
    /// `heads_hidden + 2 * kv_hidden`.
    pub qkv: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Layers.
    pub layers: usize,
    /// The longest prompt, in tokens.
    pub context: usize,
}

impl Sizes {
    /// What a config says, by its names.
    pub fn fields(&self) -> [(&'static str, usize); 8] {
        [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.mlp),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab),
            ("num_hidden_layers", self.layers),
            ("max_position_embeddings", self.context),
        ]
    }
}

impl Sizes {
    /// The sizes of the dimensions of [`types`](crate::types) by their names.
    pub fn dims(&self) -> [(&'static str, usize); 10] {
        [
            ("Hidden", self.hidden),
            ("Mlp", self.mlp),
            ("Heads", self.heads),
            ("KvHeads", self.kv_heads),
            ("HeadDim", self.head_dim),
            ("HeadsHidden", self.heads_hidden),
            ("KvHidden", self.kv_hidden),
            ("Qkv", self.qkv),
            ("Vocab", self.vocab),
            ("Context", self.context),
        ]
    }
}

/// A type that stands for one checkpoint. Written by `signature!`.
pub trait Signature: Copy + Default + Send + Sync + 'static {
    /// The type's name.
    const NAME: &'static str;
    /// The sizes, or `None` where they are known only when the model is loaded.
    const SIZES: Option<Sizes>;
}

/// Says that a model has the layer `I`; negative layers count from the end.
#[diagnostic::on_unimplemented(
    message = "model `{Self}` has no layer {I}",
    label = "no layer {I} in `{Self}`",
    note = "layers count from 0, or from the end with -1 for the last"
)]
pub trait HasLayer<const I: isize>: Signature {}

/// Says that a signature was written for the architecture `M`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the signature of a `{M}`",
    note = "`signature!(pub {Self}: {M} = \"config.json\")` declares one; `Dynamic` takes any checkpoint"
)]
pub trait Describes<M>: Signature {}

/// The signature of a model whose config is known only when the program runs. Names and ranks are still checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dynamic;
impl Signature for Dynamic {
    const NAME: &'static str = "Dynamic";
    const SIZES: Option<Sizes> = None;
}
impl<const I: isize> HasLayer<I> for Dynamic {}
impl<M> Describes<M> for Dynamic {}

/// Says that a value belongs to the model it is used with.
#[diagnostic::on_unimplemented(
    message = "this value belongs to another model: expected `{C}`, found `{Self}`",
    label = "a value of `{Self}`",
    note = "the activations of two checkpoints mean different things; convert on purpose with `.to_signature::<{C}>()` after the trace"
)]
pub trait SameModel<C> {}
impl<C> SameModel<C> for C {}
