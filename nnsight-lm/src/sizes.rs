//! The sizes of a language model.

/// The sizes of a transformer.
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
    /// The longest prompt, in positions.
    pub context: usize,
    /// Of MLPs that are made of experts.
    pub experts: Option<ExpertSizes>,
}

/// The sizes of MLPs that are made of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertSizes {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a position goes to.
    pub chosen: usize,
    /// Neurons of one expert.
    pub mlp: usize,
}

impl Sizes {
    /// What a config says, by its names.
    pub fn fields(&self) -> [(&'static str, usize); 11] {
        // A model without experts has none.
        let ExpertSizes { count, chosen, mlp } = self.experts.unwrap_or(ExpertSizes { count: 0, chosen: 0, mlp: 0 });
        [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.mlp),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab),
            ("num_hidden_layers", self.layers),
            ("max_position_embeddings", self.context),
            ("num_experts", count),
            ("num_experts_per_tok", chosen),
            ("moe_intermediate_size", mlp),
        ]
    }

    /// The sizes of a [`Signature`](nnsight_core::types::Signature); `None` if it lacks one.
    pub fn of(signature: &[(&str, usize)]) -> Option<Self> {
        let size = |name: &str| signature.iter().find(|(found, _)| *found == name).map(|(_, size)| *size);
        let experts = || Some(ExpertSizes { count: size("Experts")?, chosen: size("Chosen")?, mlp: size("ExpertMlp")? });
        Some(Sizes {
            hidden: size("Hidden")?,
            mlp: size("Mlp")?,
            heads: size("Heads")?,
            kv_heads: size("KvHeads")?,
            head_dim: size("HeadDim")?,
            heads_hidden: size("HeadsHidden")?,
            kv_hidden: size("KvHidden")?,
            qkv: size("Qkv")?,
            vocab: size("Vocab")?,
            layers: size("Layers")?,
            context: size("Context")?,
            experts: experts(),
        })
    }

    /// The sizes of the dimensions of this crate by their names, and the number of layers.
    pub fn dims(&self) -> Vec<(&'static str, usize)> {
        let mut dims = vec![
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
            ("Layers", self.layers),
        ];
        if let Some(ExpertSizes { count, chosen, mlp }) = self.experts {
            dims.extend([("Experts", count), ("Chosen", chosen), ("ExpertMlp", mlp)]);
        }
        dims
    }
}
