//! Gemma 3 (Gemma Team 2025): layers that see a window, and every so many one that sees all; norms before and after attention and MLP.

use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::types::Batch;
use nnsight_kernels::{MaybeOwned, add, upcast_for_sums};
use nnsight_lm::{HeadDim, Heads, HeadsHidden, Hidden, Key, KvHeads, KvHidden, Query, Seq, Sizes, Vocab};
use nnsight_macros::Module;

use crate::config::{Config, Fixed, Keys, ropes, windowed_layers};
use crate::decoder::Decoder;
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, HeadNorm, Linear, RmsNorm};
use crate::layers::{Activation, AttentionTaps, GatedMlp, Rope, Rotary, ScaledDotProduct, merge_heads, positions, queries_keys_values, split_heads};
use crate::loading::{ConfigKey, GgufNames, Loader, Stored, Weights};
use crate::network::Network;
use crate::{Error, Result as Loaded};

/// A Gemma 3 with the signature `C`, ready to be traced.
pub type Gemma3<C> = LanguageModel<Gemma3ForCausalLm, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model, config = Gemma3Config)]
#[common(CausalLm<Block> { layers, embed: embed_tokens.output, final_norm: norm.output, logits: lm_head.output })]
pub struct Gemma3ForCausalLm {
    /// The token embedding, times the root of the residual stream's width.
    #[child(name = "model.embed_tokens", scale = (config.sizes.hidden as f64).sqrt())]
    embed_tokens: Embedding<Vocab, Hidden>,
    /// The layers.
    #[child(name = "model.layers")]
    layers: Vec<DecoderLayer>,
    /// The norm before the head.
    #[child(pointwise, name = "model.norm", epsilon = config.rms_norm_eps, offset = 1.0)]
    norm: RmsNorm,
    /// From the residual stream to logits.
    #[child(pointwise, tied_to = config.tie_word_embeddings.then_some("model.embed_tokens"))]
    lm_head: Linear<Hidden, Vocab>,
    place: Place,
}

/// One layer. Its input and output are the residual stream before and after it.
#[derive(Module)]
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = Gemma3Config)]
#[common(CausalBlock<Attention> {
    resid_pre: input, resid_mid, resid_post: output, attn: self_attn, attn_out: post_attention_layernorm.output,
    mlp_out: post_feedforward_layernorm.output, mlp_pre: mlp.gate_proj.output, mlp_post: mlp.down_proj.input,
})]
pub struct DecoderLayer {
    /// The norm before the attention.
    #[child(pointwise, epsilon = config.rms_norm_eps, offset = 1.0)]
    input_layernorm: RmsNorm,
    /// The attention.
    #[child]
    self_attn: SelfAttention,
    /// The norm after the attention.
    #[child(pointwise, epsilon = config.rms_norm_eps, offset = 1.0)]
    post_attention_layernorm: RmsNorm,
    /// The norm before the MLP.
    #[tap(resid_mid: (Batch, Seq, Hidden))]
    #[child(pointwise, epsilon = config.rms_norm_eps, offset = 1.0)]
    pre_feedforward_layernorm: RmsNorm,
    /// The MLP.
    #[child(pointwise, activation = Activation::Gelu)]
    mlp: GatedMlp,
    /// The norm after the MLP.
    #[child(pointwise, epsilon = config.rms_norm_eps, offset = 1.0)]
    post_feedforward_layernorm: RmsNorm,
    place: Place,
}

/// Grouped-query attention (Ainslie et al. 2023) with normed queries and keys (Dehghani et al. 2023), in a window or not, with a rotary embedding for
/// each of the two. Of a layer with a window, too, positions count as seeing all before them: what is further away is hidden by the mask.
///
/// What it is given beside its input: `position_ids`, and `attention_mask`, which is added to the scores. Its values: `q`, `k`, `v` by heads, as they
/// are projected; `q_rot`, `k_rot` after the norm and the rotary embedding; `scores` before the softmax, scaled and masked (whatever is written to
/// them, what `attention_mask` hides stays hidden); `pattern` after it; `z`, what each head gathered.
#[derive(Module)]
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = Gemma3Config)]
#[common(CausalAttention<KvHeads> { q, k, v, scores, pattern, z })]
pub struct SelfAttention {
    /// Queries.
    #[tap(position_ids: (Batch, Seq) Int, from())]
    #[tap(attention_mask: (Batch, Query, Key), from())]
    #[child(pointwise, from(input), bias = config.attention_bias)]
    q_proj: Linear<Hidden, HeadsHidden>,
    /// Keys.
    #[child(pointwise, from(input), bias = config.attention_bias)]
    k_proj: Linear<Hidden, KvHidden>,
    /// Values.
    #[child(pointwise, from(input), bias = config.attention_bias)]
    v_proj: Linear<Hidden, KvHidden>,
    /// The norm of every head's queries.
    #[tap(q: (Batch, Heads, Seq, HeadDim), from(q_proj))]
    #[child(pointwise, from(q), epsilon = config.rms_norm_eps, offset = 1.0)]
    q_norm: HeadNorm<Heads>,
    /// The norm of every head's keys.
    #[tap(k: (Batch, KvHeads, Seq, HeadDim), from(k_proj))]
    #[child(pointwise, from(k), epsilon = config.rms_norm_eps, offset = 1.0)]
    k_norm: HeadNorm<KvHeads>,
    /// From what the heads gathered back to the residual stream.
    #[tap(v: (Batch, KvHeads, Seq, HeadDim), from(v_proj))]
    #[tap(q_rot: (Batch, Heads, Seq, HeadDim), from(q_norm, position_ids))]
    #[tap(k_rot: (Batch, KvHeads, Seq, HeadDim), from(k_norm, position_ids))]
    #[tap(scores: (Batch, Heads, Query, Key), from(q_rot, k_rot, attention_mask))]
    #[tap(pattern: (Batch, Heads, Query, Key), from(scores, attention_mask))]
    #[tap(z: (Batch, Heads, Seq, HeadDim), from(pattern, v), mixes)]
    #[child(pointwise, from(z), bias = config.attention_bias)]
    o_proj: Linear<HeadsHidden, Hidden>,
    #[value(config.rope(loader.layer()).rotary(loader)?)]
    rotary: Arc<Rotary>,
    #[value(ScaledDotProduct { scale: Some(config.scale), window: config.window(loader.layer()), ..ScaledDotProduct::CAUSAL })]
    dot_product: ScaledDotProduct,
    #[value(config.sizes.heads)]
    heads: usize,
    #[value(config.sizes.kv_heads)]
    kv_heads: usize,
    place: Place,
}

impl Decoder for Gemma3ForCausalLm {
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
        let attention = cx.call(&self.self_attn, &normed)?;
        let attention = cx.call_owned(&self.post_attention_layernorm, &attention)?;
        let middle = cx.tap(Self::RESID_MID, add(attention, &cx.wanted(x)?)?.into_tensor())?;
        let normed = cx.call(&self.pre_feedforward_layernorm, &middle)?;
        let mlp = cx.call(&self.mlp, &normed)?;
        let mlp = cx.call_owned(&self.post_feedforward_layernorm, &mlp)?;
        Ok(add(mlp, &middle)?.into_tensor().to_dtype(dtype)?)
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
        let (q, k) = (cx.call(&self.q_norm, &q)?, cx.call(&self.k_norm, &k)?);
        let q = cx.tap(Self::Q_ROT, self.rotary.apply(&q, of_queries.as_ref())?)?;
        let k = cx.tap(Self::K_ROT, self.rotary.apply(&k, positions.as_ref())?)?;
        let taps = AttentionTaps { scores: Self::SCORES, pattern: Self::PATTERN };
        let z = self.dot_product.attend(cx, taps, [&q, &k, &v], mask, dtype)?;
        let z = cx.tap(Self::Z, z)?;
        cx.call_owned(&self.o_proj, &merge_heads(&z)?)
    }
}

impl Network for Gemma3ForCausalLm {
    const MODEL_TYPE: &'static str = "gemma3_text";
    const GGUF: Option<&'static GgufNames> = Some(&GGUF);

    fn build(config: &Config, weights: &mut Weights) -> Loaded<Self> {
        let config = Gemma3Config::new(config)?;
        Loader::read(weights, &config, &config.sizes)
    }
}

/// What a Gemma 3 needs to know.
#[derive(Clone, Debug)]
pub struct Gemma3Config {
    sizes: Sizes,
    rms_norm_eps: f64,
    /// By what scores are multiplied.
    scale: f64,
    /// For each layer whether it sees a window only.
    is_local: Vec<bool>,
    window: usize,
    /// Of the layers that see all.
    global_rope: Rope,
    /// Of those that see a window.
    local_rope: Rope,
    tie_word_embeddings: bool,
    attention_bias: bool,
}

impl Gemma3Config {
    /// Reads a config.
    ///
    /// # Errors
    /// As [`LlamaConfig::new`](crate::LlamaConfig::new).
    pub fn new(config: &Config) -> Loaded<Self> {
        let activation = config.text("hidden_activation", "gelu_pytorch_tanh")?;
        if activation != "gelu_pytorch_tanh" {
            return Err(Error::refused("hidden_activation", &activation, "`gelu_pytorch_tanh`"));
        }
        // Their defaults are not the usual ones.
        let (_, window) = (config.size(&["head_dim"])?, config.size(&["sliding_window"])?);
        let sizes = config.sizes()?;
        let pattern = config.optional(&["sliding_window_pattern", "_sliding_window_pattern"])?.unwrap_or(6).max(1);
        let is_local = windowed_layers(config, sizes.layers, |layer| (layer + 1) % pattern != 0)?;
        let ([global, local], context) = (ropes(config, sizes.head_dim)?, sizes.context);
        config.check_keys(&KEYS)?;
        let scalar = config.number("query_pre_attn_scalar", 256.0, 1e-6..=1e9)?;
        Ok(Gemma3Config {
            sizes,
            rms_norm_eps: config.number("rms_norm_eps", 1e-6, 1e-30..=1.0)?,
            scale: 1.0 / scalar.sqrt(),
            is_local,
            window,
            global_rope: Rope::new(global.0, global.1, context),
            local_rope: Rope::new(local.0, local.1, context),
            tie_word_embeddings: config.flag("tie_word_embeddings", true)?,
            attention_bias: config.flag("attention_bias", false)?,
        })
    }

    /// How many positions a layer sees, if not all before it.
    fn window(&self, layer: usize) -> Option<usize> {
        self.is_local.get(layer).is_some_and(|&is_local| is_local).then_some(self.window)
    }

    fn rope(&self, layer: usize) -> &Rope {
        if self.window(layer).is_some() { &self.local_rope } else { &self.global_rope }
    }
}

const KEYS: Keys = Keys {
    architecture: "gemma3_text",
    classes: &["Gemma3ForCausalLM", "Gemma3TextModel"],
    honoured: &[
        "_sliding_window_pattern",
        "attention_bias",
        "head_dim",
        "hidden_activation",
        "hidden_size",
        "intermediate_size",
        "layer_types",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "query_pre_attn_scalar",
        "rms_norm_eps",
        "rope_local_base_freq",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "sliding_window_pattern",
        "tie_word_embeddings",
        "vocab_size",
    ],
    // In which form earlier keys and values are kept.
    harmless: &["cache_implementation"],
    fixed: &[Fixed { key: "attn_logit_softcapping", values: &["null"] }, Fixed { key: "final_logit_softcapping", values: &["null"] }],
};

/// What llama.cpp calls it and its parts.
const GGUF: GgufNames = GgufNames {
    architecture: "gemma3",
    modules: &[
        ("model.embed_tokens", "token_embd", Stored::Same),
        ("model.norm", "output_norm", Stored::PlusOne),
        ("lm_head", "output", Stored::Same),
        ("model.layers.*.input_layernorm", "blk.*.attn_norm", Stored::PlusOne),
        ("model.layers.*.self_attn.q_proj", "blk.*.attn_q", Stored::Same),
        ("model.layers.*.self_attn.k_proj", "blk.*.attn_k", Stored::Same),
        ("model.layers.*.self_attn.v_proj", "blk.*.attn_v", Stored::Same),
        ("model.layers.*.self_attn.q_norm", "blk.*.attn_q_norm", Stored::PlusOne),
        ("model.layers.*.self_attn.k_norm", "blk.*.attn_k_norm", Stored::PlusOne),
        ("model.layers.*.self_attn.o_proj", "blk.*.attn_output", Stored::Same),
        ("model.layers.*.post_attention_layernorm", "blk.*.post_attention_norm", Stored::PlusOne),
        ("model.layers.*.pre_feedforward_layernorm", "blk.*.ffn_norm", Stored::PlusOne),
        ("model.layers.*.mlp.gate_proj", "blk.*.ffn_gate", Stored::Same),
        ("model.layers.*.mlp.up_proj", "blk.*.ffn_up", Stored::Same),
        ("model.layers.*.mlp.down_proj", "blk.*.ffn_down", Stored::Same),
        ("model.layers.*.post_feedforward_layernorm", "blk.*.post_ffw_norm", Stored::PlusOne),
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
        ("attention.sliding_window", ConfigKey::Size("sliding_window")),
    ],
    biases: &[("attention_bias", &["attn_q", "attn_k", "attn_v", "attn_output"])],
    unwritten: |config| {
        let size = |key: &str| config.get(key).and_then(serde_json::Value::as_u64);
        // In the model of 27 billion parameters, which is told by its layers, a head has fewer channels than its share of the residual stream.
        let scalar = match (size("num_hidden_layers"), size("hidden_size"), size("num_attention_heads")) {
            (Some(62), Some(hidden), Some(heads)) => hidden.checked_div(heads),
            _ => size("head_dim"),
        };
        config.insert("query_pre_attn_scalar".into(), scalar.into());
        config.insert("sliding_window_pattern".into(), 6.into());
        config.insert("rope_local_base_freq".into(), 10_000.0.into());
    },
};
