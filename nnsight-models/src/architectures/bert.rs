//! BERT (Devlin et al. 2019), an encoder: every position sees all others, and norms follow on the residual sums.

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::Batch;
use nnsight_kernels::{MaybeOwned, add, upcast, upcast_for_sums};
use nnsight_lm::{Context, Encoder, HeadDim, Heads, HeadsHidden, Hidden, Key, Mlp, Query, Seq, Sizes, Vocab};
use nnsight_macros::Module;

use crate::config::{Config, Fixed, Keys};
use crate::language_model::LanguageModel;
use crate::layers::plain::{Embedding, LayerNorm, Linear};
use crate::layers::{AttentionTaps, ScaledDotProduct, all_positions, merge_heads, queries_keys_values, split_heads};
use crate::loading::{Load, Loader, Weights};
use crate::network::Network;
use crate::transformer::Transformer;
use crate::{Error, Result as Loaded};

/// A BERT with the signature `C`, ready to be traced. What it computes are hidden states, `model.layers[-1].output`; it generates nothing.
///
/// Its tokenizer puts `[CLS]` before a text and `[SEP]` after it. Prompts side by side are padded on the left, and each counts its own positions: the
/// states are those that transformers computes with padding on the right.
///
/// # Shapes
/// Of the hidden states `(Batch, Seq, Hidden)`, and of `model.pooler.output` the same; its first position, `.at(Seq, 0)`, is what transformers calls
/// `pooler_output`. Of prompts of different lengths side by side, that is taken of what the trace returned.
pub type Bert<C> = LanguageModel<BertModel, C>;

/// The whole network.
#[derive(Module)]
#[module(sites = Model, config = BertConfig)]
pub struct BertModel {
    /// From tokens to the residual stream.
    #[child]
    embeddings: Embeddings,
    /// The layers.
    #[child(name = "encoder.layer")]
    layers: Vec<EncoderLayer>,
    /// What the prediction of the next sentence was trained on.
    #[child(pointwise)]
    pooler: Pooler,
    place: Place,
}

/// `norm(word + position + token type)`, the residual stream before the first layer.
#[derive(Module)]
#[module(input: (Batch, Seq) Int, output: (Batch, Seq, Hidden), config = BertConfig)]
pub struct Embeddings {
    /// The token embedding.
    #[child]
    word_embeddings: Embedding<Vocab, Hidden>,
    /// The position embedding.
    #[child(from())]
    position_embeddings: Embedding<Context, Hidden>,
    /// The embedding of token types.
    #[child(from())]
    token_type_embeddings: TokenTypeEmbedding,
    /// The norm of the sum.
    #[child(pointwise, name = "LayerNorm", epsilon = config.layer_norm_eps)]
    norm: LayerNorm,
    place: Place,
}

/// A row for the part of a text to which a token belongs: its input is 0 for all tokens, until 1 is written to those of a second sentence.
#[derive(Module)]
#[module(input: (Batch, Seq) Int, output: (Batch, Seq, Hidden))]
pub struct TokenTypeEmbedding {
    table: Tensor,
    place: Place,
}

/// One layer. Its input and output are the residual stream before and after it.
#[derive(Module)]
#[module(sites = Block, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = BertConfig)]
pub struct EncoderLayer {
    /// The attention.
    #[child]
    attention: SelfAttention,
    /// The norm of the residual stream with what the attention adds.
    #[child(pointwise, name = "attention.output.LayerNorm", epsilon = config.layer_norm_eps)]
    attention_norm: LayerNorm,
    /// The MLP.
    #[child(pointwise, name = "")]
    mlp: FeedForward,
    /// The norm of the residual stream with what the MLP adds.
    #[child(pointwise, name = "output.LayerNorm", epsilon = config.layer_norm_eps)]
    output_norm: LayerNorm,
    place: Place,
}

/// Multi-head attention (Vaswani et al. 2017) in both directions.
///
/// What it is given beside its input: `attention_mask`, which is added to the scores and hides padding. Its values: `q`, `k`, `v` by heads; `scores`
/// before the softmax, scaled and masked (whatever is written to them, what `attention_mask` hides stays hidden); `pattern` after it; `z`, what each
/// head gathered.
#[derive(Module)]
#[module(sites = Attention, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = BertConfig)]
pub struct SelfAttention {
    /// From the residual stream to queries.
    #[tap(attention_mask: (Batch, Query, Key), from())]
    #[child(pointwise, from(input), name = "self.query", bias = true)]
    query: Linear<Hidden, HeadsHidden>,
    /// From the residual stream to keys.
    #[child(pointwise, from(input), name = "self.key", bias = true)]
    key: Linear<Hidden, HeadsHidden>,
    /// From the residual stream to values.
    #[child(pointwise, from(input), name = "self.value", bias = true)]
    value: Linear<Hidden, HeadsHidden>,
    /// From what the heads gathered back to the residual stream.
    #[tap(q: (Batch, Heads, Seq, HeadDim), from(query))]
    #[tap(k: (Batch, Heads, Seq, HeadDim), from(key))]
    #[tap(v: (Batch, Heads, Seq, HeadDim), from(value))]
    #[tap(scores: (Batch, Heads, Query, Key), from(q, k, attention_mask))]
    #[tap(pattern: (Batch, Heads, Query, Key), from(scores, attention_mask))]
    #[tap(z: (Batch, Heads, Seq, HeadDim), from(pattern, v), mixes(all))]
    #[child(pointwise, from(z), name = "output.dense", bias = true)]
    dense: Linear<HeadsHidden, Hidden>,
    #[value(config.sizes.heads)]
    heads: usize,
    place: Place,
}

/// `dense(gelu(intermediate(x)))`
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden), config = BertConfig)]
pub struct FeedForward {
    /// To the neurons, before their activation.
    #[child(pointwise, name = "intermediate.dense", bias = true)]
    intermediate: Linear<Hidden, Mlp>,
    /// Back to the residual stream; its input is what the neurons give.
    #[tap(act: (Batch, Seq, Mlp))]
    #[child(pointwise, name = "output.dense", bias = true)]
    dense: Linear<Mlp, Hidden>,
    place: Place,
}

/// `tanh(dense(x))`, of every position: that of the first, `[CLS]`, is what it was trained for. It is run only if somebody looks at it.
#[derive(Module)]
#[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), pointwise(Hidden, Hidden), config = BertConfig)]
pub struct Pooler {
    /// The map before the hyperbolic tangent.
    #[child(pointwise, bias = true)]
    dense: Linear<Hidden, Hidden>,
    place: Place,
}

impl Transformer for BertModel {
    type Kind = Encoder;
    type Layer = EncoderLayer;

    fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        cx.call(&self.embeddings, tokens)
    }

    fn layers(&self) -> &[EncoderLayer] {
        &self.layers
    }

    fn head(&self) -> Option<Place> {
        None
    }

    fn finish(&self, x: Tensor, cx: &mut Cx) -> Result<Tensor> {
        if cx.looks_into(&self.pooler) {
            let [wide] = upcast_for_sums([&x])?;
            cx.call(&self.pooler, &wide)?;
        }
        Ok(x)
    }
}

impl Forward for Embeddings {
    fn forward(&self, tokens: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let word = cx.call(&self.word_embeddings, tokens)?;
        let position = cx.call(&self.position_embeddings, &all_positions(cx)?)?;
        let token_type = cx.call(&self.token_type_embeddings, &tokens.zeros_like()?)?;
        let [word, position, token_type] = upcast_for_sums([&word, &position, &token_type])?;
        let sum = ((word + token_type)? + position)?;
        Ok(cx.call(&self.norm, &sum)?.to_dtype(self.token_type_embeddings.table.dtype())?)
    }
}

impl Forward for TokenTypeEmbedding {
    fn forward(&self, types: &Tensor, _: &mut Cx) -> Result<Tensor> {
        let (rows, width) = types.dims2()?;
        let found = self.table.index_select(&types.to_dtype(DType::U32)?.flatten_all()?, 0)?;
        Ok(found.reshape((rows, width, self.table.dim(1)?))?)
    }
}

impl Load<BertConfig> for TokenTypeEmbedding {
    type Options = ();

    fn load(loader: &mut Loader<'_, BertConfig>, (): ()) -> Loaded<Self> {
        let shape = [loader.config().type_vocab_size, loader.size::<Hidden>()?];
        Ok(TokenTypeEmbedding { table: loader.tensor("weight", &shape)?, place: Place::default() })
    }
}

impl Forward for EncoderLayer {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        // 16 bits are rounded to where the layer ends, and where somebody looks.
        let (dtype, [x]) = (x.dtype(), &upcast_for_sums([x])?);
        let sum = add(cx.call_owned(&self.attention, x)?, x)?.into_tensor();
        let middle = cx.call(&self.attention_norm, &sum)?;
        let sum = add(cx.call_owned(&self.mlp, &middle)?, &middle)?.into_tensor();
        Ok(cx.call(&self.output_norm, &sum)?.to_dtype(dtype)?)
    }
}

impl Forward for SelfAttention {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let (dtype, dot_product) = (self.value.dtype(), ScaledDotProduct::BIDIRECTIONAL);
        let mask = dot_product.mask(cx, Self::ATTENTION_MASK, dtype)?;
        let [q, k, v] = queries_keys_values([&self.query, &self.key, &self.value], x, cx)?;
        let q = cx.tap(Self::Q, split_heads(&q, self.heads)?)?;
        let k = cx.tap(Self::K, split_heads(&k, self.heads)?)?;
        let v = cx.tap(Self::V, split_heads(&v, self.heads)?)?;
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
        let hidden = cx.call(&self.intermediate, x)?;
        // The exact one: BERT's GELU is older than its approximation.
        let act = cx.tap(Self::ACT, upcast(&hidden)?.gelu_erf()?.to_dtype(hidden.dtype())?)?;
        cx.call_owned(&self.dense, &act)
    }
}

impl Forward for Pooler {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(cx.call(&self.dense, x)?.tanh()?)
    }
}

impl Network for BertModel {
    const MODEL_TYPE: &'static str = "bert";

    fn build(config: &Config, weights: &mut Weights) -> Loaded<Self> {
        let config = BertConfig::new(config)?;
        Loader::read(weights, &config, &config.sizes)
    }
}

/// What a BERT needs to know.
#[derive(Clone, Debug)]
pub struct BertConfig {
    sizes: Sizes,
    layer_norm_eps: f64,
    type_vocab_size: usize,
}

impl BertConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// As [`LlamaConfig::new`](crate::LlamaConfig::new).
    pub fn new(config: &Config) -> Loaded<Self> {
        let activation = config.text("hidden_act", "gelu")?;
        if activation != "gelu" {
            return Err(Error::refused("hidden_act", &activation, "`gelu`"));
        }
        if config.flag("is_decoder", false)? {
            return Err(Error::refused("is_decoder", "true", "`false`: a decoder's attention is causal"));
        }
        let type_vocab_size = config.optional(&["type_vocab_size"])?.unwrap_or(2);
        if type_vocab_size == 0 {
            return Err(Error::refused("type_vocab_size", 0, "1 or more"));
        }
        // Its default is not four times the hidden size.
        config.size(&["intermediate_size"])?;
        let sizes = config.sizes()?;
        config.check_keys(&KEYS)?;
        Ok(BertConfig { sizes, layer_norm_eps: config.number("layer_norm_eps", 1e-12, 1e-30..=1.0)?, type_vocab_size })
    }
}

const KEYS: Keys = Keys {
    architecture: "bert",
    classes: &["BertModel"],
    honoured: &[
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "type_vocab_size",
        "vocab_size",
    ],
    harmless: &[
        // Of the code before transformers, which has one pooler.
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
        // Of a head for masked tokens.
        "tie_word_embeddings",
    ],
    fixed: &[
        Fixed { key: "directionality", values: &["\"bidi\"", "null"] },
        Fixed { key: "is_causal", values: &["false", "null"] },
        Fixed { key: "position_embedding_type", values: &["\"absolute\"", "null"] },
        Fixed { key: "use_bidirectional_attention", values: &["true", "null"] },
    ],
};
