//! The axes of language models.

nnsight_core::position_dims!(
    /// The positions of a prompt; index 0 is its first token, -1 its last.
    pub Seq = Position,
    /// The position that attends.
    pub Query = Query,
    /// The position that is attended to.
    pub Key = Key,
);

nnsight_core::model_dims!(
    /// The residual stream (`hidden_size`, `n_embd`).
    pub Hidden,
    /// The neurons of an MLP (`intermediate_size`, `n_inner`).
    pub Mlp,
    /// The attention heads.
    pub Heads,
    /// The heads of keys and values under grouped-query attention.
    pub KvHeads,
    /// The channels of one head.
    pub HeadDim,
    /// All heads side by side, as `q_proj` returns them.
    pub HeadsHidden,
    /// All key or value heads side by side, as `k_proj` and `v_proj` return them.
    pub KvHidden,
    /// Query, key and value side by side, as GPT-2's `c_attn` returns them.
    pub Qkv,
    /// The tokens of the vocabulary.
    pub Vocab,
    /// The positions that a model knows (`max_position_embeddings`, `n_positions`).
    pub Context,
);
