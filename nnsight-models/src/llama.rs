//! Llama (Touvron et al. 2023) and what is built like it: grouped-query attention, rotary positions, gated MLPs.

use candle_core::{DType, Device, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::run::StagedModel;
use nnsight_core::types::{Batch, DimName};
use nnsight_kernels::{MaybeOwned, add, mul, silu, silu_mul, upcast_for_sums};
use nnsight_lm::{HeadDim, Heads, HeadsHidden, Hidden, Key, KvCache, KvHeads, KvHidden, Mlp, Query, Seq, TokenBatch, Vocab};
use nnsight_macros::Module;
use std::sync::Arc;

use crate::config::{Config, LlamaConfig};
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, Linear, RmsNorm};
use crate::layers::{AttentionTaps, Rotary, attention, fused_linear, mask, merge_heads, queries_keys_values, split_heads};
use crate::layout::Layout;
use crate::loading::Weights;
use crate::network::Network;

/// A Llama with the signature `C`, ready to be traced.
pub type Llama<C> = LanguageModel<LlamaForCausalLm, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model)]
pub struct LlamaForCausalLm {
    /// The token embedding.
    #[child]
    embed_tokens: Embedding<Vocab, Hidden>,
    /// The layers.
    #[child]
    layers: Vec<DecoderLayer>,
    /// The norm before the head.
    #[child(pointwise)]
    norm: RmsNorm,
    /// From the residual stream to logits.
    #[child(pointwise)]
    lm_head: Linear<Hidden, Vocab>,
    device: Device,
    dtype: DType,
    place: Place,
}

/// One layer. Its input and output are the residual stream before and after it.
#[derive(Module)]
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
pub struct DecoderLayer {
    /// The norm before the attention.
    #[child(pointwise)]
    input_layernorm: RmsNorm,
    /// The attention.
    #[child]
    self_attn: SelfAttention,
    /// The norm before the MLP.
    #[tap(resid_mid: (Batch, Seq, Hidden))]
    #[child(pointwise)]
    post_attention_layernorm: RmsNorm,
    /// The MLP.
    #[child(pointwise)]
    mlp: GatedMlp,
    place: Place,
}

/// Grouped-query attention (Ainslie et al. 2023).
///
/// What it is given beside its input: `position_ids`, and `attention_mask`, which is added to the scores. Its values: `q`, `k`, `v` by heads; `q_rot`, `k_rot` after the rotary embedding; `scores` before the softmax, scaled and masked
/// (whatever is written to them, what `attention_mask` hides stays hidden); `pattern` after it; `z`, what each head gathered.
#[derive(Module)]
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
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
    rotary: Arc<Rotary>,
    heads: usize,
    kv_heads: usize,
    place: Place,
}

/// `down(silu(gate(x)) * up(x))` (Shazeer 2020).
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct GatedMlp {
    /// The gate, before its activation.
    #[child(pointwise, from(input))]
    gate_proj: Linear<Hidden, Mlp>,
    /// What the gate lets through.
    #[child(pointwise, from(input))]
    up_proj: Linear<Hidden, Mlp>,
    /// Back to the residual stream; its input is what the neurons give.
    #[tap(act: (Batch, Seq, Mlp), from(gate_proj))]
    #[child(pointwise)]
    down_proj: Linear<Mlp, Hidden>,
    place: Place,
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

impl SelfAttention {
    /// Keys and values with those of earlier positions, in the model's type whether these are kept or not.
    fn extend(&self, k: &Tensor, v: &Tensor, cx: &mut Cx) -> Result<(Tensor, Tensor)> {
        let dtype = self.v_proj.dtype();
        KvCache::extend(cx, k.to_dtype(dtype)?, v.to_dtype(dtype)?)
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let positions = match cx.wants(&[Self::POSITION_IDS]) || !cx.wants_all_positions() {
            false => cx.batch::<TokenBatch>()?.positions().cloned(),
            true => Some(cx.tap(Self::POSITION_IDS, cx.batch::<TokenBatch>()?.whole_positions()?)?),
        };
        let mask = mask(cx, Self::ATTENTION_MASK, self.v_proj.dtype())?;
        let [q, k, v] = queries_keys_values([&self.q_proj, &self.k_proj, &self.v_proj], x, cx)?;
        let q = cx.tap(Self::Q, split_heads(&q, self.heads)?)?;
        let k = cx.tap(Self::K, split_heads(&k, self.kv_heads)?)?;
        let v = cx.tap(Self::V, split_heads(&v, self.kv_heads)?)?;
        let of_queries = positions.as_ref().map(|positions| cx.wanted(positions)).transpose()?;
        let q = cx.tap(Self::Q_ROT, self.rotary.apply(&q, of_queries.as_ref())?)?;
        let k = cx.tap(Self::K_ROT, self.rotary.apply(&k, positions.as_ref())?)?;
        let (k, v) = self.extend(&k, &v, cx)?;
        let taps = AttentionTaps { scores: Self::SCORES, pattern: Self::PATTERN };
        let z = attention(cx, taps, [&q, &k, &v], mask)?;
        let z = cx.tap(Self::Z, z)?;
        cx.call_owned(&self.o_proj, &merge_heads(&z)?)
    }
}

impl Forward for GatedMlp {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let [gate, up] = fused_linear([&self.gate_proj, &self.up_proj], x, cx)?;
        let up = up.into_tensor();
        // The activation by itself exists only where somebody looks at it.
        let neurons = match cx.wants(&[Self::ACT]) {
            true => mul(&cx.tap(Self::ACT, silu(&gate.into_tensor())?)?, &up)?,
            false => silu_mul(gate, &up)?.into_tensor(),
        };
        cx.call_owned(&self.down_proj, &neurons)
    }
}

impl StagedModel for LlamaForCausalLm {
    type State = Tensor;

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn count(&self) -> usize {
        self.layers.len() + 2
    }

    fn begin(&self, cx: &mut Cx) -> Result<Tensor> {
        Ok(cx.batch::<TokenBatch>()?.tokens().clone())
    }

    fn stage(&self, index: usize, state: Tensor, cx: &mut Cx) -> Result<Tensor> {
        if index == 0 {
            return cx.call(&self.embed_tokens, &state);
        }
        if let Some(layer) = self.layers.get(index - 1) {
            return match index == self.layers.len() {
                true => cx.call_last(layer, &state),
                false => cx.call(layer, &state),
            };
        }
        let state = cx.for_head(state)?;
        let [wide] = upcast_for_sums([&state])?;
        let normed = cx.call(&self.norm, &wide)?;
        Ok(cx.call(&self.lm_head, &normed)?.to_dtype(state.dtype())?)
    }

    fn output(&self, state: Tensor) -> Tensor {
        state
    }

    fn head(&self) -> Option<usize> {
        self.norm.place().first()
    }

    fn find(&self, path: &str) -> Option<&dyn Forward> {
        Instrument::find(self, path)
    }
}

impl Network for LlamaForCausalLm {
    const MODEL_TYPE: &'static str = "llama";
    const LAYOUT: Layout =
        Layout { layers: "layers", embed: "embed_tokens.output", norm: "norm", attn: "self_attn", pre: "gate_proj", down: "down_proj" };

    fn build(config: &Config, weights: &mut Weights) -> crate::Result<Self> {
        let config = LlamaConfig::new(config)?;
        let (dtype, device) = (weights.dtype(), weights.device().clone());
        let sizes = config.sizes;
        let rotary = Rotary::new(sizes.head_dim, config.rope_theta, &config.rope_scaling, sizes.context, dtype, &device)?;
        let rotary = Arc::new(rotary);
        let (embedding, head) =
            weights.embedding_and_head("model.embed_tokens.weight", "lm_head.weight", config.tie_word_embeddings, (sizes.vocab, sizes.hidden))?;
        let layers = (0..sizes.layers).map(|layer| DecoderLayer::build(&config, &rotary, weights, &format!("model.layers.{layer}")));
        let layers = layers.collect::<crate::Result<Vec<_>>>()?;
        let norm = RmsNorm::new(weights.get("model.norm.weight", &[sizes.hidden])?, config.rms_norm_eps);
        let lm_head = Linear::new(head, None);
        Ok(LlamaForCausalLm { embed_tokens: Embedding::new(embedding), layers, norm, lm_head, device, dtype, place: Place::default() })
    }
}

impl DecoderLayer {
    fn build(config: &LlamaConfig, rotary: &Arc<Rotary>, weights: &mut Weights, path: &str) -> crate::Result<Self> {
        let sizes = config.sizes;
        let mut norm = |name: &str| {
            let weight = weights.get(&format!("{path}.{name}.weight"), &[sizes.hidden])?;
            Ok::<_, crate::Error>(RmsNorm::new(weight, config.rms_norm_eps))
        };
        let (input_layernorm, post_attention_layernorm) = (norm("input_layernorm")?, norm("post_attention_layernorm")?);
        let self_attn = SelfAttention {
            q_proj: linear(weights, &format!("{path}.self_attn.q_proj"), sizes.hidden, sizes.heads_hidden, config.attention_bias)?,
            k_proj: linear(weights, &format!("{path}.self_attn.k_proj"), sizes.hidden, sizes.kv_hidden, config.attention_bias)?,
            v_proj: linear(weights, &format!("{path}.self_attn.v_proj"), sizes.hidden, sizes.kv_hidden, config.attention_bias)?,
            o_proj: linear(weights, &format!("{path}.self_attn.o_proj"), sizes.heads_hidden, sizes.hidden, config.attention_bias)?,
            rotary: Arc::clone(rotary),
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            place: Place::default(),
        };
        let mlp = GatedMlp {
            gate_proj: linear(weights, &format!("{path}.mlp.gate_proj"), sizes.hidden, sizes.mlp, config.mlp_bias)?,
            up_proj: linear(weights, &format!("{path}.mlp.up_proj"), sizes.hidden, sizes.mlp, config.mlp_bias)?,
            down_proj: linear(weights, &format!("{path}.mlp.down_proj"), sizes.mlp, sizes.hidden, config.mlp_bias)?,
            place: Place::default(),
        };
        Ok(DecoderLayer { input_layernorm, self_attn, post_attention_layernorm, mlp, place: Place::default() })
    }
}

/// A linear map as PyTorch stores it: the weight is `(out, in)`.
fn linear<I: DimName, O: DimName>(weights: &mut Weights, path: &str, from: usize, to: usize, bias: bool) -> crate::Result<Linear<I, O>> {
    let weight = weights.get(&format!("{path}.weight"), &[to, from])?.t()?;
    let weight = weights.matrix(weight)?;
    let bias = bias.then(|| weights.get(&format!("{path}.bias"), &[to])).transpose()?;
    Ok(Linear::new(weight, bias))
}
