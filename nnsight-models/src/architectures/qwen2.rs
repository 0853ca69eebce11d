//! Qwen2 (Qwen Team 2024): a Llama whose queries, keys and values have biases; its later layers may see a window only.

use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::types::Batch;
use nnsight_kernels::{MaybeOwned, add, upcast_for_sums};
use nnsight_lm::{HeadDim, Heads, HeadsHidden, Hidden, Key, KvHeads, KvHidden, Query, Seq, Sizes, Vocab};
use nnsight_macros::Module;

use crate::config::{Config, Fixed, Keys, rope, windowed_layers};
use crate::decoder::Decoder;
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, Linear, RmsNorm};
use crate::layers::{AttentionTaps, GatedMlp, Rope, Rotary, ScaledDotProduct, merge_heads, positions, queries_keys_values, split_heads};
use crate::loading::{ConfigKey, GgufNames, Loader, Stored, Weights};
use crate::network::Network;
use crate::{Error, Result as Loaded};

/// A Qwen2 with the signature `C`, ready to be traced.
pub type Qwen2<C> = LanguageModel<Qwen2ForCausalLm, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model, config = Qwen2Config)]
#[common(CausalLm<Block> { layers, embed: embed_tokens.output, final_norm: norm.output, logits: lm_head.output })]
pub struct Qwen2ForCausalLm {
    /// The token embedding.
    #[child(name = "model.embed_tokens")]
    embed_tokens: Embedding<Vocab, Hidden>,
    /// The layers.
    #[child(name = "model.layers")]
    layers: Vec<DecoderLayer>,
    /// The norm before the head.
    #[child(pointwise, name = "model.norm", epsilon = config.rms_norm_eps)]
    norm: RmsNorm,
    /// From the residual stream to logits.
    #[child(pointwise, tied_to = config.tie_word_embeddings.then_some("model.embed_tokens"))]
    lm_head: Linear<Hidden, Vocab>,
    place: Place,
}

/// One layer. Its input and output are the residual stream before and after it.
#[derive(Module)]
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = Qwen2Config)]
#[common(CausalBlock<Attention> {
    resid_pre: input, resid_mid, resid_post: output, attn: self_attn, attn_out: self_attn.output,
    mlp_out: mlp.output, mlp_pre: mlp.gate_proj.output, mlp_post: mlp.down_proj.input,
})]
pub struct DecoderLayer {
    /// The norm before the attention.
    #[child(pointwise, epsilon = config.rms_norm_eps)]
    input_layernorm: RmsNorm,
    /// The attention.
    #[child]
    self_attn: SelfAttention,
    /// The norm before the MLP.
    #[tap(resid_mid: (Batch, Seq, Hidden))]
    #[child(pointwise, epsilon = config.rms_norm_eps)]
    post_attention_layernorm: RmsNorm,
    /// The MLP.
    #[child(pointwise)]
    mlp: GatedMlp,
    place: Place,
}

/// Grouped-query attention (Ainslie et al. 2023), in a window or not. Of a layer with a window, too, positions count as seeing all before them: what is
/// further away is hidden by the mask.
///
/// What it is given beside its input: `position_ids`, and `attention_mask`, which is added to the scores. Its values: `q`, `k`, `v` by heads; `q_rot`,
/// `k_rot` after the rotary embedding; `scores` before the softmax, scaled and masked (whatever is written to them, what `attention_mask` hides stays
/// hidden); `pattern` after it; `z`, what each head gathered.
#[derive(Module)]
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = Qwen2Config)]
#[common(CausalAttention<KvHeads> { q, k, v, scores, pattern, z })]
pub struct SelfAttention {
    /// Queries.
    #[tap(position_ids: (Batch, Seq) Int, from())]
    #[tap(attention_mask: (Batch, Query, Key), from())]
    #[child(pointwise, from(input), bias = true)]
    q_proj: Linear<Hidden, HeadsHidden>,
    /// Keys.
    #[child(pointwise, from(input), bias = true)]
    k_proj: Linear<Hidden, KvHidden>,
    /// Values.
    #[child(pointwise, from(input), bias = true)]
    v_proj: Linear<Hidden, KvHidden>,
    /// From what the heads gathered back to the residual stream.
    #[tap(q: (Batch, Heads, Seq, HeadDim), from(q_proj))]
    #[tap(k: (Batch, KvHeads, Seq, HeadDim), from(k_proj))]
    #[tap(v: (Batch, KvHeads, Seq, HeadDim), from(v_proj))]
    #[tap(q_rot: (Batch, Heads, Seq, HeadDim), from(q, position_ids))]
    #[tap(k_rot: (Batch, KvHeads, Seq, HeadDim), from(k, position_ids))]
    #[tap(scores: (Batch, Heads, Query, Key), from(q_rot, k_rot, attention_mask))]
    #[tap(pattern: (Batch, Heads, Query, Key), from(scores, attention_mask))]
    #[tap(z: (Batch, Heads, Seq, HeadDim), from(pattern, v), mixes)]
    #[child(pointwise, from(z))]
    o_proj: Linear<HeadsHidden, Hidden>,
    #[value(config.rope.rotary(loader)?)]
    rotary: Arc<Rotary>,
    #[value(ScaledDotProduct { window: config.window(loader.layer()), ..ScaledDotProduct::CAUSAL })]
    dot_product: ScaledDotProduct,
    #[value(config.sizes.heads)]
    heads: usize,
    #[value(config.sizes.kv_heads)]
    kv_heads: usize,
    place: Place,
}

impl Decoder for Qwen2ForCausalLm {
    type Layer = DecoderLayer;

    fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        cx.call(&self.embed_tokens, tokens)
    }

    fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }

    fn after_layers(&self) -> Place {
        self.norm.place()
    }

    fn logits(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let normed = cx.call(&self.norm, x)?;
        cx.call(&self.lm_head, &normed)
    }
}

impl Forward for DecoderLayer {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        // 16 bits are rounded to where the layer ends, and where somebody looks.
        let (dtype, [x]) = (x.dtype(), &upcast_for_sums([x])?);
        let normed = cx.call(&self.input_layernorm, x)?;
        let attention = cx.call_owned(&self.self_attn, &normed)?;
        let middle = cx.tap(Self::RESID_MID, add(attention, &cx.wanted(x)?)?.into_tensor())?;
        let normed = cx.call(&self.post_attention_layernorm, &middle)?;
        Ok(add(cx.call_owned(&self.mlp, &normed)?, &middle)?.into_tensor().to_dtype(dtype)?)
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let dtype = self.v_proj.dtype();
        let positions = positions(cx, Self::POSITION_IDS)?;
        let mask = self.dot_product.mask(cx, Self::ATTENTION_MASK, dtype)?;
        let [q, k, v] = queries_keys_values([&self.q_proj, &self.k_proj, &self.v_proj], x, cx)?;
        let q = cx.tap(Self::Q, split_heads(&q, self.heads)?)?;
        let k = cx.tap(Self::K, split_heads(&k, self.kv_heads)?)?;
        let v = cx.tap(Self::V, split_heads(&v, self.kv_heads)?)?;
        let of_queries = positions.as_ref().map(|positions| cx.wanted(positions)).transpose()?;
        let q = cx.tap(Self::Q_ROT, self.rotary.apply(&q, of_queries.as_ref())?)?;
        let k = cx.tap(Self::K_ROT, self.rotary.apply(&k, positions.as_ref())?)?;
        let taps = AttentionTaps { scores: Self::SCORES, pattern: Self::PATTERN };
        let z = self.dot_product.attend(cx, taps, [&q, &k, &v], mask, dtype)?;
        let z = cx.tap(Self::Z, z)?;
        cx.call_owned(&self.o_proj, &merge_heads(&z)?)
    }
}

impl Network for Qwen2ForCausalLm {
    const MODEL_TYPE: &'static str = "qwen2";
    const GGUF: Option<&'static GgufNames> = Some(&GGUF);

    fn build(config: &Config, weights: &mut Weights) -> Loaded<Self> {
        let config = Qwen2Config::new(config)?;
        Loader::read(weights, &config, &config.sizes)
    }
}

/// What a Qwen2 needs to know.
#[derive(Clone, Debug)]
pub struct Qwen2Config {
    sizes: Sizes,
    rms_norm_eps: f64,
    rope: Rope,
    tie_word_embeddings: bool,
    /// For each layer whether it sees a window only.
    is_local: Vec<bool>,
    window: usize,
}

impl Qwen2Config {
    /// Reads a config.
    ///
    /// # Errors
    /// As [`LlamaConfig::new`](crate::LlamaConfig::new).
    pub fn new(config: &Config) -> Loaded<Self> {
        let activation = config.text("hidden_act", "silu")?;
        if !matches!(activation.as_str(), "silu" | "swish") {
            return Err(Error::refused("hidden_act", &activation, "`silu`"));
        }
        let sizes = config.sizes()?;
        let (rope_theta, rope_scaling) = rope(config, sizes.head_dim)?;
        let has_window = config.flag("use_sliding_window", false)?;
        let first = config.optional(&["max_window_layers"])?.unwrap_or(28);
        let is_local = windowed_layers(config, sizes.layers, |layer| has_window && layer >= first)?;
        if !has_window && is_local.contains(&true) {
            return Err(Error::refused("layer_types", "sliding_attention", "`full_attention` in every layer without `use_sliding_window`"));
        }
        config.check_keys(&KEYS)?;
        Ok(Qwen2Config {
            sizes,
            rms_norm_eps: config.number("rms_norm_eps", 1e-6, 1e-30..=1.0)?,
            rope: Rope::new(rope_theta, rope_scaling, sizes.context),
            tie_word_embeddings: config.flag("tie_word_embeddings", false)?,
            is_local,
            window: config.optional(&["sliding_window"])?.unwrap_or(4096),
        })
    }

    /// How many positions a layer sees, if not all before it.
    fn window(&self, layer: usize) -> Option<usize> {
        self.is_local.get(layer).is_some_and(|&is_local| is_local).then_some(self.window)
    }
}

const KEYS: Keys = Keys {
    architecture: "qwen2",
    classes: &["Qwen2ForCausalLM", "Qwen2Model"],
    honoured: &[
        "head_dim",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "layer_types",
        "max_position_embeddings",
        "max_window_layers",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "tie_word_embeddings",
        "use_sliding_window",
        "vocab_size",
    ],
    harmless: &[],
    // Positions in pictures.
    fixed: &[Fixed { key: "use_mrope", values: &["false"] }],
};

/// What llama.cpp calls it and its parts.
const GGUF: GgufNames = GgufNames {
    architecture: "qwen2",
    modules: &[
        ("model.embed_tokens", "token_embd", Stored::Same),
        ("model.norm", "output_norm", Stored::Same),
        ("lm_head", "output", Stored::Same),
        ("model.layers.*.input_layernorm", "blk.*.attn_norm", Stored::Same),
        ("model.layers.*.self_attn.q_proj", "blk.*.attn_q", Stored::Same),
        ("model.layers.*.self_attn.k_proj", "blk.*.attn_k", Stored::Same),
        ("model.layers.*.self_attn.v_proj", "blk.*.attn_v", Stored::Same),
        ("model.layers.*.self_attn.o_proj", "blk.*.attn_output", Stored::Same),
        ("model.layers.*.post_attention_layernorm", "blk.*.ffn_norm", Stored::Same),
        ("model.layers.*.mlp.gate_proj", "blk.*.ffn_gate", Stored::Same),
        ("model.layers.*.mlp.up_proj", "blk.*.ffn_up", Stored::Same),
        ("model.layers.*.mlp.down_proj", "blk.*.ffn_down", Stored::Same),
    ],
    keys: &[
        ("embedding_length", ConfigKey::Size("hidden_size")),
        ("feed_forward_length", ConfigKey::Size("intermediate_size")),
        ("attention.head_count", ConfigKey::Size("num_attention_heads")),
        ("attention.head_count_kv", ConfigKey::Size("num_key_value_heads")),
        ("attention.key_length", ConfigKey::HeadChannels("head_dim")),
        ("block_count", ConfigKey::Size("num_hidden_layers")),
        ("context_length", ConfigKey::Size("max_position_embeddings")),
        ("attention.layer_norm_rms_epsilon", ConfigKey::Number("rms_norm_eps")),
        ("rope.freq_base", ConfigKey::Number("rope_theta")),
        ("rope.scaling.factor", ConfigKey::Scaling("rope_scaling")),
    ],
    biases: &[],
    unwritten: |_| {},
};
