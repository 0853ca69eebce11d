//! GPT-2 (Radford et al. 2019).

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::types::Batch;
use nnsight_kernels::{MaybeOwned, add, gelu, upcast_for_sums};
use nnsight_lm::{Context, HeadDim, Heads, Hidden, Key, Mlp, Qkv, Query, Seq, Sizes, Vocab};
use nnsight_macros::Module;

use crate::config::{Config, Fixed, Keys};
use crate::decoder::Decoder;
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, LayerNorm, Linear};
use crate::layers::{AttentionTaps, ScaledDotProduct, all_positions, merge_heads, split_heads};
use crate::loading::{ConfigKey, GgufNames, Loader, Stored, Weights};
use crate::network::Network;
use crate::{Error, Result as Loaded};

/// A GPT-2 with the signature `C`, ready to be traced.
pub type Gpt2<C> = LanguageModel<Gpt2LmHeadModel, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model, config = Gpt2Config)]
#[common(CausalLm<Block> { layers: transformer.h, embed: transformer.embed, final_norm: transformer.ln_f.output, logits: lm_head.output })]
pub struct Gpt2LmHeadModel {
    /// Everything but the head.
    #[child]
    transformer: Transformer,
    /// From the residual stream to logits.
    #[child(pointwise, tied_to = config.tie_word_embeddings.then_some("transformer.wte"))]
    lm_head: Linear<Hidden, Vocab>,
    place: Place,
}

/// Embeddings, layers and the last norm.
///
/// Its value `embed` is the sum of both embeddings, the residual stream before the first layer.
#[derive(Module)]
#[module(sites = TransformerSites, config = Gpt2Config)]
pub struct Transformer {
    /// The token embedding.
    #[child]
    wte: Embedding<Vocab, Hidden>,
    /// The position embedding.
    #[child(from())]
    wpe: Embedding<Context, Hidden>,
    /// The layers.
    #[tap(embed: (Batch, Seq, Hidden))]
    #[child]
    h: Vec<DecoderLayer>,
    /// The norm before the head.
    #[child(pointwise, epsilon = config.layer_norm_epsilon)]
    ln_f: LayerNorm,
    place: Place,
}

/// One layer. Its input and output are the residual stream before and after it.
#[derive(Module)]
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = Gpt2Config)]
#[common(CausalBlock<Attention> {
    resid_pre: input, resid_mid, resid_post: output, attn, attn_out: attn.output,
    mlp_out: mlp.output, mlp_pre: mlp.c_fc.output, mlp_post: mlp.c_proj.input,
})]
pub struct DecoderLayer {
    /// The norm before the attention.
    #[child(pointwise, epsilon = config.layer_norm_epsilon)]
    ln_1: LayerNorm,
    /// The attention.
    #[child]
    attn: SelfAttention,
    /// The norm before the MLP.
    #[tap(resid_mid: (Batch, Seq, Hidden))]
    #[child(pointwise, epsilon = config.layer_norm_epsilon)]
    ln_2: LayerNorm,
    /// The MLP.
    #[child(pointwise)]
    mlp: FeedForward,
    place: Place,
}

/// Multi-head attention.
///
/// What it is given beside its input: `attention_mask`, which is added to the scores. Its values: `q`, `k`, `v` by heads; `scores` before the softmax, scaled and masked (whatever is
/// written to them, what `attention_mask` hides stays hidden); `pattern` after it; `z`, what each head gathered.
#[derive(Module)]
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = Gpt2Config)]
#[common(CausalAttention<Heads> { q, k, v, scores, pattern, z })]
pub struct SelfAttention {
    /// Queries, keys and values side by side.
    #[tap(attention_mask: (Batch, Query, Key), from())]
    #[child(pointwise, from(input), bias = true, transposed = true)]
    c_attn: Linear<Hidden, Qkv>,
    /// From what the heads gathered back to the residual stream.
    #[tap(q: (Batch, Heads, Seq, HeadDim), from(c_attn))]
    #[tap(k: (Batch, Heads, Seq, HeadDim), from(c_attn))]
    #[tap(v: (Batch, Heads, Seq, HeadDim), from(c_attn))]
    #[tap(scores: (Batch, Heads, Query, Key), from(q, k, attention_mask))]
    #[tap(pattern: (Batch, Heads, Query, Key), from(scores, attention_mask))]
    #[tap(z: (Batch, Heads, Seq, HeadDim), from(pattern, v), mixes)]
    #[child(pointwise, from(z), bias = true, transposed = true)]
    c_proj: Linear<Hidden, Hidden>,
    #[value(config.sizes.heads)]
    heads: usize,
    place: Place,
}

/// `proj(gelu(fc(x)))`
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden), config = Gpt2Config)]
pub struct FeedForward {
    /// To the neurons, before their activation.
    #[child(pointwise, bias = true, transposed = true)]
    c_fc: Linear<Hidden, Mlp>,
    /// Back to the residual stream; its input is what the neurons give.
    #[tap(act: (Batch, Seq, Mlp))]
    #[child(pointwise, bias = true, transposed = true)]
    c_proj: Linear<Mlp, Hidden>,
    place: Place,
}

impl Decoder for Gpt2LmHeadModel {
    type Layer = DecoderLayer;

    fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let transformer = &self.transformer;
        let token = cx.call(&transformer.wte, tokens)?;
        let position = cx.call(&transformer.wpe, &all_positions(cx)?)?;
        let sum = (token + position)?;
        cx.within(transformer, |cx| cx.tap(Transformer::EMBED, sum))
    }

    fn layers(&self) -> &[DecoderLayer] {
        &self.transformer.h
    }

    fn after_layers(&self) -> Place {
        self.transformer.ln_f.place()
    }

    fn logits(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let normed = cx.call(&self.transformer.ln_f, x)?;
        cx.call(&self.lm_head, &normed)
    }
}

impl Forward for DecoderLayer {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        // 16 bits are rounded to where the layer ends, and where somebody looks.
        let (dtype, [x]) = (x.dtype(), &upcast_for_sums([x])?);
        let normed = cx.call(&self.ln_1, x)?;
        let attention = cx.call_owned(&self.attn, &normed)?;
        let middle = cx.tap(Self::RESID_MID, add(attention, &cx.wanted(x)?)?.into_tensor())?;
        let normed = cx.call(&self.ln_2, &middle)?;
        Ok(add(cx.call_owned(&self.mlp, &normed)?, &middle)?.into_tensor().to_dtype(dtype)?)
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let (hidden, dtype, dot_product) = (x.dim(2)?, self.c_attn.dtype(), ScaledDotProduct::CAUSAL);
        let mask = dot_product.mask(cx, Self::ATTENTION_MASK, dtype)?;
        let qkv = cx.call(&self.c_attn, x)?;
        let part = |qkv: &Tensor, index: usize| split_heads(&qkv.narrow(2, index * hidden, hidden)?, self.heads);
        let q = cx.tap(Self::Q, part(&cx.wanted(&qkv)?, 0)?)?;
        let k = cx.tap(Self::K, part(&qkv, 1)?)?;
        let v = cx.tap(Self::V, part(&qkv, 2)?)?;
        let taps = AttentionTaps { scores: Self::SCORES, pattern: Self::PATTERN };
        let z = dot_product.attend(cx, taps, [&q, &k, &v], mask, dtype)?;
        let z = cx.tap(Self::Z, z)?;
        cx.call_owned(&self.c_proj, &merge_heads(&z)?)
    }
}

impl Forward for FeedForward {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let hidden = cx.call(&self.c_fc, x)?;
        let act = cx.tap(Self::ACT, gelu(&hidden)?)?;
        cx.call_owned(&self.c_proj, &act)
    }
}

impl Network for Gpt2LmHeadModel {
    const MODEL_TYPE: &'static str = "gpt2";
    const GGUF: Option<&'static GgufNames> = Some(&GGUF);

    fn build(config: &Config, weights: &mut Weights) -> Loaded<Self> {
        let config = Gpt2Config::new(config)?;
        Loader::read(weights, &config, &config.sizes)
    }
}

/// What a GPT-2 needs to know.
#[derive(Clone, Debug)]
pub struct Gpt2Config {
    sizes: Sizes,
    layer_norm_epsilon: f64,
    tie_word_embeddings: bool,
}

impl Gpt2Config {
    /// Reads a config.
    ///
    /// # Errors
    /// As [`LlamaConfig::new`](crate::LlamaConfig::new).
    pub fn new(config: &Config) -> Loaded<Self> {
        let activation = config.text("activation_function", "gelu_new")?;
        // Three names for one approximation by a hyperbolic tangent.
        if !matches!(activation.as_str(), "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") {
            return Err(Error::refused("activation_function", &activation, "`gelu_new`"));
        }
        let sizes = config.sizes()?;
        config.check_keys(&KEYS)?;
        Ok(Gpt2Config {
            sizes,
            layer_norm_epsilon: config.number("layer_norm_epsilon", 1e-5, 1e-30..=1.0)?,
            tie_word_embeddings: config.flag("tie_word_embeddings", true)?,
        })
    }
}

const KEYS: Keys = Keys {
    architecture: "gpt2",
    classes: &["GPT2LMHeadModel", "GPT2Model"],
    honoured: &[
        "activation_function",
        "hidden_size",
        "intermediate_size",
        "layer_norm_epsilon",
        "max_position_embeddings",
        "n_ctx",
        "n_embd",
        "n_head",
        "n_inner",
        "n_layer",
        "n_positions",
        "num_attention_heads",
        "num_hidden_layers",
        "tie_word_embeddings",
        "vocab_size",
    ],
    harmless: &[
        "n_special",
        "predict_special_tokens",
        // In which precision and order scores are computed, not what they are.
        "reorder_and_upcast_attn",
        // Of a head for classification.
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ],
    fixed: &[Fixed { key: "scale_attn_weights", values: &["true"] }, Fixed { key: "scale_attn_by_inverse_layer_idx", values: &["false", "null"] }],
};

/// What llama.cpp calls it and its parts.
const GGUF: GgufNames = GgufNames {
    architecture: "gpt2",
    modules: &[
        ("transformer.wte", "token_embd", Stored::Same),
        ("transformer.wpe", "position_embd", Stored::Same),
        ("transformer.ln_f", "output_norm", Stored::Same),
        ("lm_head", "output", Stored::Same),
        ("transformer.h.*.ln_1", "blk.*.attn_norm", Stored::Same),
        ("transformer.h.*.attn.c_attn", "blk.*.attn_qkv", Stored::Transposed),
        ("transformer.h.*.attn.c_proj", "blk.*.attn_output", Stored::Transposed),
        ("transformer.h.*.ln_2", "blk.*.ffn_norm", Stored::Same),
        ("transformer.h.*.mlp.c_fc", "blk.*.ffn_up", Stored::Transposed),
        ("transformer.h.*.mlp.c_proj", "blk.*.ffn_down", Stored::Transposed),
    ],
    keys: &[
        ("embedding_length", ConfigKey::Size("n_embd")),
        ("attention.head_count", ConfigKey::Size("n_head")),
        ("attention.head_count_kv", ConfigKey::SameAs("attention.head_count")),
        ("block_count", ConfigKey::Size("n_layer")),
        ("context_length", ConfigKey::Size("n_positions")),
        ("feed_forward_length", ConfigKey::Size("n_inner")),
        ("attention.layer_norm_epsilon", ConfigKey::Number("layer_norm_epsilon")),
    ],
    biases: &[],
    unwritten: |_| {},
};
