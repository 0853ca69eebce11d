//! Mixtral (Jiang et al. 2024): a Llama whose MLPs are made of experts, of which every position goes to a few.

use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::types::Batch;
use nnsight_kernels::{MaybeOwned, add, silu_mul, softmax, upcast, upcast_for_sums};
use nnsight_lm::{Chosen, ExpertMlp, ExpertSizes, Experts, HeadDim, Heads, HeadsHidden, Hidden, Key, KvHeads, KvHidden, Query, Seq, Sizes, Vocab};
use nnsight_macros::Module;

use crate::config::{Config, Keys, full_attention, rope};
use crate::decoder::Decoder;
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, Linear, RmsNorm};
use crate::layers::{
    AttentionTaps, Rope, Rotary, Routes, ScaledDotProduct, fused_linear, merge_heads, most_probable, positions, queries_keys_values, split_heads,
};
use crate::loading::{Loader, Weights};
use crate::network::Network;
use crate::{Error, Result as Loaded};

/// A Mixtral with the signature `C`, ready to be traced.
pub type Mixtral<C> = LanguageModel<MixtralForCausalLm, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model, config = MixtralConfig)]
#[common(CausalLm<Block> { layers, embed: embed_tokens.output, final_norm: norm.output, logits: lm_head.output })]
pub struct MixtralForCausalLm {
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
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = MixtralConfig)]
#[common(CausalBlock<Attention> {
    resid_pre: input, resid_mid, resid_post: output, attn: self_attn, attn_out: self_attn.output,
    mlp_out: block_sparse_moe.output,
})]
pub struct DecoderLayer {
    /// The norm before the attention.
    #[child(pointwise, epsilon = config.rms_norm_eps)]
    input_layernorm: RmsNorm,
    /// The attention.
    #[child]
    self_attn: SelfAttention,
    /// The norm before the experts.
    #[tap(resid_mid: (Batch, Seq, Hidden))]
    #[child(pointwise, epsilon = config.rms_norm_eps)]
    post_attention_layernorm: RmsNorm,
    /// The experts in place of an MLP.
    #[child(pointwise)]
    block_sparse_moe: SparseMoe,
    place: Place,
}

/// A mixture of experts (Shazeer et al. 2017).
///
/// Its values: `gate.output`, a logit for every expert; `chosen`, the experts that a position goes to, the best first; `weights`, by which what they
/// return is added up. An expert's sites have all positions; what is written at those that do not go to it changes nothing.
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden), config = MixtralConfig)]
pub struct SparseMoe {
    /// From a position to the logits of the experts.
    #[child(pointwise, from(input))]
    gate: Linear<Hidden, Experts>,
    /// The experts.
    #[tap(chosen: (Batch, Seq, Chosen) Int, from(gate))]
    #[tap(weights: (Batch, Seq, Chosen), from(gate, chosen))]
    #[child(count = Experts, from(input, chosen))]
    experts: Vec<Expert>,
    #[value(config.experts.chosen)]
    experts_of_position: usize,
    place: Place,
}

/// A gated MLP (Shazeer 2020): `w2(silu(w1(x)) * w3(x))`.
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden), config = MixtralConfig)]
pub struct Expert {
    /// The gate, before its activation.
    #[child(pointwise, from(input))]
    w1: Linear<Hidden, ExpertMlp>,
    /// What the gate lets through.
    #[child(pointwise, from(input))]
    w3: Linear<Hidden, ExpertMlp>,
    /// Back to the residual stream; its input is what the neurons give.
    #[child(pointwise, from(w1, w3))]
    w2: Linear<ExpertMlp, Hidden>,
    place: Place,
}

/// Grouped-query attention (Ainslie et al. 2023).
///
/// What it is given beside its input: `position_ids`, and `attention_mask`, which is added to the scores. Its values: `q`, `k`, `v` by heads; `q_rot`, `k_rot` after the rotary embedding; `scores` before the softmax, scaled and masked
/// (whatever is written to them, what `attention_mask` hides stays hidden); `pattern` after it; `z`, what each head gathered.
#[derive(Module)]
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = MixtralConfig)]
#[common(CausalAttention<KvHeads> { q, k, v, scores, pattern, z })]
pub struct SelfAttention {
    /// Queries.
    #[tap(position_ids: (Batch, Seq) Int, from())]
    #[tap(attention_mask: (Batch, Query, Key), from())]
    #[child(pointwise, from(input))]
    q_proj: Linear<Hidden, HeadsHidden>,
    /// Keys.
    #[child(pointwise, from(input))]
    k_proj: Linear<Hidden, KvHidden>,
    /// Values.
    #[child(pointwise, from(input))]
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
    #[value(config.sizes.heads)]
    heads: usize,
    #[value(config.sizes.kv_heads)]
    kv_heads: usize,
    place: Place,
}

impl Decoder for MixtralForCausalLm {
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
        Ok(add(cx.call_owned(&self.block_sparse_moe, &normed)?, &middle)?.into_tensor().to_dtype(dtype)?)
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let (dtype, dot_product) = (self.v_proj.dtype(), ScaledDotProduct::CAUSAL);
        let positions = positions(cx, Self::POSITION_IDS)?;
        let mask = dot_product.mask(cx, Self::ATTENTION_MASK, dtype)?;
        let [q, k, v] = queries_keys_values([&self.q_proj, &self.k_proj, &self.v_proj], x, cx)?;
        let q = cx.tap(Self::Q, split_heads(&q, self.heads)?)?;
        let k = cx.tap(Self::K, split_heads(&k, self.kv_heads)?)?;
        let v = cx.tap(Self::V, split_heads(&v, self.kv_heads)?)?;
        let of_queries = positions.as_ref().map(|positions| cx.wanted(positions)).transpose()?;
        let q = cx.tap(Self::Q_ROT, self.rotary.apply(&q, of_queries.as_ref())?)?;
        let k = cx.tap(Self::K_ROT, self.rotary.apply(&k, positions.as_ref())?)?;
        let taps = AttentionTaps { scores: Self::SCORES, pattern: Self::PATTERN };
        let z = dot_product.attend(cx, taps, [&q, &k, &v], mask, dtype)?;
        let z = cx.tap(Self::Z, z)?;
        cx.call_owned(&self.o_proj, &merge_heads(&z)?)
    }
}

impl Forward for SparseMoe {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let logits = cx.call(&self.gate, x)?;
        let probabilities = softmax(&upcast(&logits)?)?;
        let chosen = cx.tap(Self::CHOSEN, most_probable(&probabilities, self.experts_of_position)?)?;
        let routes = Routes::new(chosen, self.experts.len())?;
        let weights = cx.tap(Self::WEIGHTS, routes.weights(&probabilities, true)?)?;
        routes.mix(&self.experts, x, &weights, cx)
    }
}

impl Forward for Expert {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let [gate, up] = fused_linear([&self.w1, &self.w3], x, cx)?;
        let neurons = silu_mul(gate, &up.into_tensor())?.into_tensor();
        cx.call(&self.w2, &neurons)
    }
}

impl Network for MixtralForCausalLm {
    const MODEL_TYPE: &'static str = "mixtral";

    fn build(config: &Config, weights: &mut Weights) -> Loaded<Self> {
        let config = MixtralConfig::new(config)?;
        Loader::read(weights, &config, &config.sizes)
    }
}

/// What a Mixtral needs to know.
#[derive(Clone, Debug)]
pub struct MixtralConfig {
    sizes: Sizes,
    experts: ExpertSizes,
    rms_norm_eps: f64,
    rope: Rope,
    tie_word_embeddings: bool,
}

impl MixtralConfig {
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
        let Some(experts) = sizes.experts else { return Err(Error::Config("it has no `num_local_experts`".into())) };
        // Its default is not the usual one.
        if ["rope_theta", "rope_parameters"].iter().all(|key| config.get(key).is_none()) {
            return Err(Error::Config("it has no `rope_theta`".into()));
        }
        let (rope_theta, rope_scaling) = rope(config, sizes.head_dim)?;
        full_attention(config, sizes.context)?;
        config.check_keys(&KEYS)?;
        Ok(MixtralConfig {
            sizes,
            experts,
            rms_norm_eps: config.number("rms_norm_eps", 1e-5, 1e-30..=1.0)?,
            rope: Rope::new(rope_theta, rope_scaling, sizes.context),
            tie_word_embeddings: config.flag("tie_word_embeddings", false)?,
        })
    }
}

const KEYS: Keys = Keys {
    architecture: "mixtral",
    classes: &["MixtralForCausalLM", "MixtralModel"],
    honoured: &[
        "head_dim",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_experts_per_tok",
        "num_hidden_layers",
        "num_key_value_heads",
        "num_local_experts",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "tie_word_embeddings",
        "vocab_size",
    ],
    // They are about training.
    harmless: &["output_router_logits", "router_aux_loss_coef", "router_jitter_noise"],
    fixed: &[],
};
