//! GPT-2 (Radford et al. 2019).

use candle_core::{DType, Device, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument, Place};
use nnsight_core::run::StagedModel;
use nnsight_core::types::{Batch, DimName};
use nnsight_kernels::{MaybeOwned, add, gelu, upcast_for_sums};
use nnsight_lm::{Context, HeadDim, Heads, Hidden, Key, KvCache, Mlp, Qkv, Query, Seq, TokenBatch, Vocab};
use nnsight_macros::Module;

use crate::config::{Config, Gpt2Config};
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, LayerNorm, Linear};
use crate::layers::{AttentionTaps, attention, mask, merge_heads, split_heads};
use crate::layout::Layout;
use crate::loading::Weights;
use crate::network::Network;

/// A GPT-2 with the signature `C`, ready to be traced.
pub type Gpt2<C> = LanguageModel<Gpt2LmHeadModel, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model)]
pub struct Gpt2LmHeadModel {
    /// Everything but the head.
    #[child]
    transformer: Transformer,
    /// From the residual stream to logits.
    #[child(pointwise)]
    lm_head: Linear<Hidden, Vocab>,
    device: Device,
    dtype: DType,
    place: Place,
}

/// Embeddings, layers and the last norm.
///
/// Its value `embed` is the sum of both embeddings, the residual stream before the first layer.
#[derive(Module)]
#[module(sites = TransformerSites)]
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
    #[child(pointwise)]
    ln_f: LayerNorm,
    place: Place,
}

/// One layer. Its input and output are the residual stream before and after it.
#[derive(Module)]
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
pub struct DecoderLayer {
    /// The norm before the attention.
    #[child(pointwise)]
    ln_1: LayerNorm,
    /// The attention.
    #[child]
    attn: SelfAttention,
    /// The norm before the MLP.
    #[tap(resid_mid: (Batch, Seq, Hidden))]
    #[child(pointwise)]
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
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
pub struct SelfAttention {
    /// Queries, keys and values side by side.
    #[tap(attention_mask: (Batch, Query, Key), from())]
    #[child(pointwise, from(input))]
    c_attn: Linear<Hidden, Qkv>,
    /// From what the heads gathered back to the residual stream.
    #[tap(q: (Batch, Heads, Seq, HeadDim), from(c_attn))]
    #[tap(k: (Batch, Heads, Seq, HeadDim), from(c_attn))]
    #[tap(v: (Batch, Heads, Seq, HeadDim), from(c_attn))]
    #[tap(scores: (Batch, Heads, Query, Key), from(q, k, attention_mask))]
    #[tap(pattern: (Batch, Heads, Query, Key), from(scores, attention_mask))]
    #[tap(z: (Batch, Heads, Seq, HeadDim), from(pattern, v), mixes)]
    #[child(pointwise, from(z))]
    c_proj: Linear<Hidden, Hidden>,
    heads: usize,
    place: Place,
}

/// `proj(gelu(fc(x)))`
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden))]
pub struct FeedForward {
    /// To the neurons, before their activation.
    #[child(pointwise)]
    c_fc: Linear<Hidden, Mlp>,
    /// Back to the residual stream; its input is what the neurons give.
    #[tap(act: (Batch, Seq, Mlp))]
    #[child(pointwise)]
    c_proj: Linear<Mlp, Hidden>,
    place: Place,
}

impl Transformer {
    fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let positions = cx.batch::<TokenBatch>()?.whole_positions()?;
        let token = cx.call(&self.wte, tokens)?;
        let position = cx.call(&self.wpe, &positions)?;
        let sum = (token + position)?;
        cx.within(self, |cx| cx.tap(Self::EMBED, sum))
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

impl SelfAttention {
    /// Keys and values with those of earlier positions, in the model's type whether these are kept or not.
    fn extend(&self, k: &Tensor, v: &Tensor, cx: &mut Cx) -> Result<(Tensor, Tensor)> {
        let dtype = self.c_attn.dtype();
        KvCache::extend(cx, k.to_dtype(dtype)?, v.to_dtype(dtype)?)
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let hidden = x.dim(2)?;
        let mask = mask(cx, Self::ATTENTION_MASK, self.c_attn.dtype())?;
        let qkv = cx.call(&self.c_attn, x)?;
        let part = |qkv: &Tensor, index: usize| split_heads(&qkv.narrow(2, index * hidden, hidden)?, self.heads);
        let q = cx.tap(Self::Q, part(&cx.wanted(&qkv)?, 0)?)?;
        let k = cx.tap(Self::K, part(&qkv, 1)?)?;
        let v = cx.tap(Self::V, part(&qkv, 2)?)?;
        let (k, v) = self.extend(&k, &v, cx)?;
        let taps = AttentionTaps { scores: Self::SCORES, pattern: Self::PATTERN };
        let z = attention(cx, taps, [&q, &k, &v], mask)?;
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

impl StagedModel for Gpt2LmHeadModel {
    type State = Tensor;

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn count(&self) -> usize {
        self.transformer.h.len() + 2
    }

    fn begin(&self, cx: &mut Cx) -> Result<Tensor> {
        Ok(cx.batch::<TokenBatch>()?.tokens().clone())
    }

    fn stage(&self, index: usize, state: Tensor, cx: &mut Cx) -> Result<Tensor> {
        if index == 0 {
            return self.transformer.embed(&state, cx);
        }
        if let Some(layer) = self.transformer.h.get(index - 1) {
            return match index == self.transformer.h.len() {
                true => cx.call_last(layer, &state),
                false => cx.call(layer, &state),
            };
        }
        let state = cx.for_head(state)?;
        let [wide] = upcast_for_sums([&state])?;
        let normed = cx.call(&self.transformer.ln_f, &wide)?;
        Ok(cx.call(&self.lm_head, &normed)?.to_dtype(state.dtype())?)
    }

    fn output(&self, state: Tensor) -> Tensor {
        state
    }

    fn head(&self) -> Option<usize> {
        self.transformer.ln_f.place().first()
    }

    fn find(&self, path: &str) -> Option<&dyn Forward> {
        Instrument::find(self, path)
    }
}

impl Network for Gpt2LmHeadModel {
    const MODEL_TYPE: &'static str = "gpt2";
    const LAYOUT: Layout =
        Layout { layers: "transformer.h", embed: "transformer.embed", norm: "transformer.ln_f", attn: "attn", pre: "c_fc", down: "c_proj" };

    fn build(config: &Config, weights: &mut Weights) -> crate::Result<Self> {
        let config = Gpt2Config::new(config)?;
        let sizes = config.sizes;
        let (dtype, device) = (weights.dtype(), weights.device().clone());
        let (wte, head) =
            weights.embedding_and_head("transformer.wte.weight", "lm_head.weight", config.tie_word_embeddings, (sizes.vocab, sizes.hidden))?;
        let wpe = weights.get("transformer.wpe.weight", &[sizes.context, sizes.hidden])?;
        let h = (0..sizes.layers).map(|layer| DecoderLayer::build(&config, weights, &format!("transformer.h.{layer}")));
        let h = h.collect::<crate::Result<Vec<_>>>()?;
        let ln_f = norm(&config, weights, "transformer.ln_f")?;
        let lm_head = Linear::new(head, None);
        let transformer = Transformer { wte: Embedding::new(wte), wpe: Embedding::new(wpe.t()?), h, ln_f, place: Place::default() };
        Ok(Gpt2LmHeadModel { transformer, lm_head, device, dtype, place: Place::default() })
    }
}

impl DecoderLayer {
    fn build(config: &Gpt2Config, weights: &mut Weights, path: &str) -> crate::Result<Self> {
        let sizes = config.sizes;
        let attn = SelfAttention {
            c_attn: conv1d(weights, &format!("{path}.attn.c_attn"), sizes.hidden, sizes.qkv)?,
            c_proj: conv1d(weights, &format!("{path}.attn.c_proj"), sizes.hidden, sizes.hidden)?,
            heads: sizes.heads,
            place: Place::default(),
        };
        let mlp = FeedForward {
            c_fc: conv1d(weights, &format!("{path}.mlp.c_fc"), sizes.hidden, sizes.mlp)?,
            c_proj: conv1d(weights, &format!("{path}.mlp.c_proj"), sizes.mlp, sizes.hidden)?,
            place: Place::default(),
        };
        let (ln_1, ln_2) = (norm(config, weights, &format!("{path}.ln_1"))?, norm(config, weights, &format!("{path}.ln_2"))?);
        Ok(DecoderLayer { ln_1, attn, ln_2, mlp, place: Place::default() })
    }
}

fn norm(config: &Gpt2Config, weights: &mut Weights, path: &str) -> crate::Result<LayerNorm> {
    let shape = [config.sizes.hidden];
    let (weight, bias) = (weights.get(&format!("{path}.weight"), &shape)?, weights.get(&format!("{path}.bias"), &shape)?);
    Ok(LayerNorm::new(weight, bias, config.layer_norm_epsilon))
}

/// A linear map as GPT-2 stores it: the weight is `(in, out)`.
fn conv1d<I: DimName, O: DimName>(weights: &mut Weights, path: &str, from: usize, to: usize) -> crate::Result<Linear<I, O>> {
    let weight = weights.get(&format!("{path}.weight"), &[from, to])?;
    let weight = weights.matrix(weight)?;
    Ok(Linear::new(weight, Some(weights.get(&format!("{path}.bias"), &[to])?)))
}
