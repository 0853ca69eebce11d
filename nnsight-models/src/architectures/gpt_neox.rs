//! GPT-NeoX (Black et al. 2022), of which Pythia (Biderman et al. 2023) is: attention and MLP side by side, rotary positions on some channels.

use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::types::Batch;
use nnsight_kernels::{MaybeOwned, add, gelu, upcast, upcast_for_sums};
use nnsight_lm::{HeadDim, Heads, Hidden, Key, Mlp, Qkv, Query, Seq, Sizes, Vocab};
use nnsight_macros::Module;

use crate::config::{Config, Keys, partial_rope};
use crate::decoder::Decoder;
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, LayerNorm, Linear};
use crate::layers::{AttentionTaps, Rope, Rotary, ScaledDotProduct, merge_heads, positions};
use crate::loading::{ConfigKey, GgufNames, Loader, Stored, Weights};
use crate::network::Network;
use crate::{Error, Result as Loaded};

/// A GPT-NeoX with the signature `C`, ready to be traced.
pub type GptNeoX<C> = LanguageModel<GptNeoXForCausalLm, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model, config = GptNeoXConfig)]
#[common(CausalLm<Block> {
    layers: gpt_neox.layers, embed: gpt_neox.embed_in.output, final_norm: gpt_neox.final_layer_norm.output, logits: embed_out.output,
})]
pub struct GptNeoXForCausalLm {
    /// Everything but the head.
    #[child]
    gpt_neox: Transformer,
    /// From the residual stream to logits.
    #[child(pointwise, tied_to = config.tie_word_embeddings.then_some("gpt_neox.embed_in"))]
    embed_out: Linear<Hidden, Vocab>,
    place: Place,
}

/// The embedding, the layers and the last norm.
#[derive(Module)]
#[module(sites = TransformerSites, config = GptNeoXConfig)]
pub struct Transformer {
    /// The token embedding.
    #[child]
    embed_in: Embedding<Vocab, Hidden>,
    /// The layers.
    #[child]
    layers: Vec<DecoderLayer>,
    /// The norm before the head.
    #[child(pointwise, epsilon = config.layer_norm_eps)]
    final_layer_norm: LayerNorm,
    place: Place,
}

/// One layer. Its input and output are the residual stream before and after it.
///
/// Where the MLP is beside the attention, it does not read `resid_mid`, to which what it returns is added all the same.
#[derive(Module)]
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = GptNeoXConfig)]
#[common(CausalBlock<Attention> {
    resid_pre: input, resid_mid, resid_post: output, attn: attention, attn_out: attention.output,
    mlp_out: mlp.output, mlp_pre: mlp.dense_h_to_4h.output, mlp_post: mlp.dense_4h_to_h.input,
})]
pub struct DecoderLayer {
    /// The norm before the attention.
    #[child(pointwise, epsilon = config.layer_norm_eps)]
    input_layernorm: LayerNorm,
    /// The attention.
    #[child]
    attention: SelfAttention,
    /// The norm before the MLP.
    #[tap(resid_mid: (Batch, Seq, Hidden))]
    #[child(pointwise, epsilon = config.layer_norm_eps)]
    post_attention_layernorm: LayerNorm,
    /// The MLP.
    #[child(pointwise)]
    mlp: FeedForward,
    /// Whether the MLP reads what the attention reads, and not what it adds to.
    #[value(config.use_parallel_residual)]
    is_parallel: bool,
    place: Place,
}

/// Multi-head attention.
///
/// What it is given beside its input: `position_ids`, and `attention_mask`, which is added to the scores. Its values: `q`, `k`, `v` by heads; `q_rot`,
/// `k_rot` after the rotary embedding; `scores` before the softmax, scaled and masked (whatever is written to them, what `attention_mask` hides stays
/// hidden); `pattern` after it; `z`, what each head gathered.
#[derive(Module)]
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = GptNeoXConfig)]
#[common(CausalAttention<Heads> { q, k, v, scores, pattern, z })]
pub struct SelfAttention {
    /// Query, key and value of one head after the other.
    #[tap(position_ids: (Batch, Seq) Int, from())]
    #[tap(attention_mask: (Batch, Query, Key), from())]
    #[child(pointwise, from(input), bias = config.attention_bias)]
    query_key_value: Linear<Hidden, Qkv>,
    /// From what the heads gathered back to the residual stream.
    #[tap(q: (Batch, Heads, Seq, HeadDim), from(query_key_value))]
    #[tap(k: (Batch, Heads, Seq, HeadDim), from(query_key_value))]
    #[tap(v: (Batch, Heads, Seq, HeadDim), from(query_key_value))]
    #[tap(q_rot: (Batch, Heads, Seq, HeadDim), from(q, position_ids))]
    #[tap(k_rot: (Batch, Heads, Seq, HeadDim), from(k, position_ids))]
    #[tap(scores: (Batch, Heads, Query, Key), from(q_rot, k_rot, attention_mask))]
    #[tap(pattern: (Batch, Heads, Query, Key), from(scores, attention_mask))]
    #[tap(z: (Batch, Heads, Seq, HeadDim), from(pattern, v), mixes)]
    #[child(pointwise, from(z), bias = config.attention_bias)]
    dense: Linear<Hidden, Hidden>,
    #[value(config.rope.rotary(loader)?)]
    rotary: Arc<Rotary>,
    #[value(config.sizes.heads)]
    heads: usize,
    #[value(config.sizes.head_dim)]
    head_dim: usize,
    place: Place,
}

/// `4h_to_h(gelu(h_to_4h(x)))`
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden), config = GptNeoXConfig)]
pub struct FeedForward {
    /// To the neurons, before their activation.
    #[child(pointwise, bias = true)]
    dense_h_to_4h: Linear<Hidden, Mlp>,
    /// Back to the residual stream; its input is what the neurons return.
    #[tap(act: (Batch, Seq, Mlp))]
    #[child(pointwise, bias = true)]
    dense_4h_to_h: Linear<Mlp, Hidden>,
    /// Whether GELU is taken in its tanh approximation.
    #[value(config.is_approximate)]
    is_approximate: bool,
    place: Place,
}

impl Decoder for GptNeoXForCausalLm {
    type Layer = DecoderLayer;

    fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        cx.call(&self.gpt_neox.embed_in, tokens)
    }

    fn layers(&self) -> &[DecoderLayer] {
        &self.gpt_neox.layers
    }

    fn after_layers(&self) -> Place {
        self.gpt_neox.final_layer_norm.place()
    }

    fn logits(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let normed = cx.call(&self.gpt_neox.final_layer_norm, x)?;
        cx.call(&self.embed_out, &normed)
    }
}

impl Forward for DecoderLayer {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        // 16 bits are rounded to where the layer ends, and where somebody looks.
        let (dtype, [x]) = (x.dtype(), &upcast_for_sums([x])?);
        let normed = cx.call(&self.input_layernorm, x)?;
        let attention = cx.call_owned(&self.attention, &normed)?;
        let before = cx.wanted(x)?;
        let middle = cx.tap(Self::RESID_MID, add(attention, &before)?.into_tensor())?;
        let normed = cx.call(&self.post_attention_layernorm, if self.is_parallel { &before } else { &middle })?;
        Ok(add(cx.call_owned(&self.mlp, &normed)?, &middle)?.into_tensor().to_dtype(dtype)?)
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let (dtype, dot_product) = (self.query_key_value.dtype(), ScaledDotProduct::CAUSAL);
        let positions = positions(cx, Self::POSITION_IDS)?;
        let mask = dot_product.mask(cx, Self::ATTENTION_MASK, dtype)?;
        let qkv = cx.call(&self.query_key_value, x)?;
        let part = |qkv: &Tensor, index: usize| -> Result<Tensor> {
            let (rows, width, _) = qkv.dims3()?;
            let by_head = qkv.reshape((rows, width, self.heads, 3 * self.head_dim))?.transpose(1, 2)?;
            Ok(by_head.narrow(3, index * self.head_dim, self.head_dim)?)
        };
        let q = cx.tap(Self::Q, part(&cx.wanted(&qkv)?, 0)?)?;
        let k = cx.tap(Self::K, part(&qkv, 1)?)?;
        let v = cx.tap(Self::V, part(&qkv, 2)?)?;
        let of_queries = positions.as_ref().map(|positions| cx.wanted(positions)).transpose()?;
        let q = cx.tap(Self::Q_ROT, self.rotary.apply(&q, of_queries.as_ref())?)?;
        let k = cx.tap(Self::K_ROT, self.rotary.apply(&k, positions.as_ref())?)?;
        let taps = AttentionTaps { scores: Self::SCORES, pattern: Self::PATTERN };
        let z = dot_product.attend(cx, taps, [&q, &k, &v], mask, dtype)?;
        let z = cx.tap(Self::Z, z)?;
        cx.call_owned(&self.dense, &merge_heads(&z)?)
    }
}

impl Forward for FeedForward {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let hidden = cx.call(&self.dense_h_to_4h, x)?;
        let act = match self.is_approximate {
            true => gelu(&hidden)?,
            false => upcast(&hidden)?.gelu_erf()?.to_dtype(hidden.dtype())?,
        };
        let act = cx.tap(Self::ACT, act)?;
        cx.call_owned(&self.dense_4h_to_h, &act)
    }
}

impl Network for GptNeoXForCausalLm {
    const MODEL_TYPE: &'static str = "gpt_neox";
    const GGUF: Option<&'static GgufNames> = Some(&GGUF);

    fn build(config: &Config, weights: &mut Weights) -> Loaded<Self> {
        let config = GptNeoXConfig::new(config)?;
        Loader::read(weights, &config, &config.sizes)
    }
}

/// What a GPT-NeoX needs to know.
#[derive(Clone, Debug)]
pub struct GptNeoXConfig {
    sizes: Sizes,
    layer_norm_eps: f64,
    rope: Rope,
    use_parallel_residual: bool,
    is_approximate: bool,
    tie_word_embeddings: bool,
    attention_bias: bool,
}

impl GptNeoXConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// As [`LlamaConfig::new`](crate::LlamaConfig::new).
    pub fn new(config: &Config) -> Loaded<Self> {
        let activation = config.text("hidden_act", "gelu")?;
        let is_approximate = match activation.as_str() {
            "gelu" => false,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => true,
            other => return Err(Error::refused("hidden_act", other, "`gelu`, `gelu_new` and `gelu_fast`")),
        };
        let sizes = config.sizes()?;
        let (theta, scaling, channels) = partial_rope(config, sizes.head_dim, 0.25)?;
        config.check_keys(&KEYS)?;
        Ok(GptNeoXConfig {
            sizes,
            layer_norm_eps: config.number("layer_norm_eps", 1e-5, 1e-30..=1.0)?,
            rope: Rope::new(theta, scaling, sizes.context).partial(channels),
            use_parallel_residual: config.flag("use_parallel_residual", true)?,
            is_approximate,
            tie_word_embeddings: config.flag("tie_word_embeddings", false)?,
            attention_bias: config.flag("attention_bias", true)?,
        })
    }
}

const KEYS: Keys = Keys {
    architecture: "gpt_neox",
    classes: &["GPTNeoXForCausalLM", "GPTNeoXModel"],
    honoured: &[
        "attention_bias",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "rope_parameters",
        "rope_scaling",
        "rotary_emb_base",
        "rotary_pct",
        "tie_word_embeddings",
        "use_parallel_residual",
        "vocab_size",
    ],
    harmless: &[],
    fixed: &[],
};

/// What llama.cpp calls it and its parts.
const GGUF: GgufNames = GgufNames {
    architecture: "gptneox",
    modules: &[
        ("gpt_neox.embed_in", "token_embd", Stored::Same),
        ("gpt_neox.final_layer_norm", "output_norm", Stored::Same),
        ("embed_out", "output", Stored::Same),
        ("gpt_neox.layers.*.input_layernorm", "blk.*.attn_norm", Stored::Same),
        ("gpt_neox.layers.*.attention.query_key_value", "blk.*.attn_qkv", Stored::QueriesFirst),
        ("gpt_neox.layers.*.attention.dense", "blk.*.attn_output", Stored::Same),
        ("gpt_neox.layers.*.post_attention_layernorm", "blk.*.ffn_norm", Stored::Same),
        ("gpt_neox.layers.*.mlp.dense_h_to_4h", "blk.*.ffn_up", Stored::Same),
        ("gpt_neox.layers.*.mlp.dense_4h_to_h", "blk.*.ffn_down", Stored::Same),
    ],
    keys: &[
        ("embedding_length", ConfigKey::Size("hidden_size")),
        ("feed_forward_length", ConfigKey::Size("intermediate_size")),
        ("attention.head_count", ConfigKey::Size("num_attention_heads")),
        ("attention.head_count_kv", ConfigKey::SameAs("attention.head_count")),
        ("block_count", ConfigKey::Size("num_hidden_layers")),
        ("context_length", ConfigKey::Size("max_position_embeddings")),
        ("attention.layer_norm_epsilon", ConfigKey::Number("layer_norm_eps")),
        ("rope.freq_base", ConfigKey::Number("rotary_emb_base")),
        ("rope.dimension_count", ConfigKey::Size("rotary_pct")),
        ("use_parallel_residual", ConfigKey::Number("use_parallel_residual")),
    ],
    biases: &[("attention_bias", &["attn_qkv", "attn_output"])],
    unwritten: |config| {
        let number = |key: &str| config.get(key).and_then(serde_json::Value::as_f64);
        // A share of the channels, and a boolean.
        let share = number("rotary_pct").zip(number("num_attention_heads")).zip(number("hidden_size"));
        let share = share.map(|((channels, heads), hidden)| channels * heads / hidden);
        let is_parallel = number("use_parallel_residual").map(|number| number != 0.0);
        config.insert("rotary_pct".into(), share.into());
        config.insert("use_parallel_residual".into(), is_parallel.unwrap_or(true).into());
    },
};
