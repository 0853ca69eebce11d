//! The names of TransformerLens, typed, and as other names of a model's paths.

use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::Error;
use nnsight_core::graph::{At, Graph, Invoke, InvokeId, Node, NodeId, Op, Prompt, SiteId, Source, SourceId};
use nnsight_core::observer::Observer;
use nnsight_core::trace::{Index, Site};
use nnsight_core::types::{Batch, HeadDim, Heads, Hidden, Key, Mlp, Query, Seq, Signature, Vocab};
use nnsight_kernels::{softmax, upcast};

use crate::causal::{CausalAttention, CausalBlock, CausalLm};
use crate::loaded::Loaded;

macro_rules! hooks {
    ($($(#[$meta:meta])* $name:ident = $own:ident -> $shape:ty;)+) => {$(
        $(#[$meta])*
        fn $name(&self) -> Site<'t, C, $shape> {
            self.$own()
        }
    )+};
}

/// A model's sites by the names of TransformerLens: `model.blocks(5).hook_resid_post()`.
pub trait HookedTransformer<'t, C: Signature>: CausalLm<'t, C> {
    /// `blocks.5`; negative numbers count from the end.
    #[track_caller]
    fn blocks(&self, layer: impl Index) -> Self::Block {
        self.block(layer)
    }
    hooks! {
        /// `hook_embed`. On models with a position embedding, that is part of it here.
        hook_embed = embed -> (Batch, Seq, Hidden);
        /// `ln_final.hook_normalized`, with the norm's weight applied.
        hook_ln_final = final_norm -> (Batch, Seq, Hidden);
        /// What `unembed` gives.
        hook_logits = logits -> (Batch, Seq, Vocab);
    }
}
impl<'t, C: Signature, M: CausalLm<'t, C>> HookedTransformer<'t, C> for M {}

/// The sites of one layer by the names of TransformerLens.
pub trait HookedBlock<'t, C: Signature>: CausalBlock<'t, C> {
    hooks! {
        /// `blocks.N.hook_resid_pre`
        hook_resid_pre = resid_pre -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_resid_mid`
        hook_resid_mid = resid_mid -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_resid_post`
        hook_resid_post = resid_post -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_attn_out`
        hook_attn_out = attn_out -> (Batch, Seq, Hidden);
        /// `blocks.N.hook_mlp_out`
        hook_mlp_out = mlp_out -> (Batch, Seq, Hidden);
        /// `blocks.N.mlp.hook_pre`
        hook_pre = mlp_pre -> (Batch, Seq, Mlp);
        /// `blocks.N.mlp.hook_post`
        hook_post = mlp_post -> (Batch, Seq, Mlp);
    }
}
impl<'t, C: Signature, B: CausalBlock<'t, C>> HookedBlock<'t, C> for B {}

/// The sites of an attention by the names of TransformerLens.
pub trait HookedAttention<'t, C: Signature>: CausalAttention<'t, C> {
    hooks! {
        /// `blocks.N.attn.hook_q`; its axes are `(Batch, Heads, Seq, HeadDim)`.
        hook_q = q -> (Batch, Heads, Seq, HeadDim);
        /// `blocks.N.attn.hook_attn_scores`
        hook_attn_scores = scores -> (Batch, Heads, Query, Key);
        /// `blocks.N.attn.hook_pattern`
        hook_pattern = pattern -> (Batch, Heads, Query, Key);
        /// `blocks.N.attn.hook_z`; its axes are `(Batch, Heads, Seq, HeadDim)`.
        hook_z = z -> (Batch, Heads, Seq, HeadDim);
    }
}
impl<'t, C: Signature, A: CausalAttention<'t, C>> HookedAttention<'t, C> for A {}

/// Where an architecture keeps what TransformerLens has names for.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The list of layers.
    pub layers: &'static str,
    /// The residual stream before the first.
    pub embed: &'static str,
    /// The norm behind the last.
    pub norm: &'static str,
    /// The attention of a layer.
    pub attn: &'static str,
    /// Of the MLP, the module that gives the neurons before their activation.
    pub pre: &'static str,
    /// Of the MLP, the module that takes what the neurons give.
    pub down: &'static str,
}

impl Layout {
    /// The names of TransformerLens for the sites of one layer, and the paths that they stand for.
    fn layer(&self, layer: usize) -> Vec<(String, String)> {
        let own = format!("{}.{layer}", self.layers);
        let Layout { attn, pre, down, .. } = self;
        let names = [
            ("hook_resid_pre", "input".to_string()),
            ("hook_resid_mid", "resid_mid".to_string()),
            ("hook_resid_post", "output".to_string()),
            ("hook_attn_out", format!("{attn}.output")),
            ("hook_mlp_out", "mlp.output".to_string()),
            ("attn.hook_q", format!("{attn}.q")),
            ("attn.hook_k", format!("{attn}.k")),
            ("attn.hook_v", format!("{attn}.v")),
            ("attn.hook_attn_scores", format!("{attn}.scores")),
            ("attn.hook_pattern", format!("{attn}.pattern")),
            ("attn.hook_z", format!("{attn}.z")),
            ("mlp.hook_pre", format!("mlp.{pre}.output")),
            ("mlp.hook_post", format!("mlp.{down}.input")),
        ];
        names.into_iter().map(|(name, path)| (format!("blocks.{layer}.{name}"), format!("{own}.{path}"))).collect()
    }
}

impl Loaded {
    /// See [`LanguageModel::with_transformer_lens_names`](crate::LanguageModel::with_transformer_lens_names).
    pub(crate) fn named_as_transformer_lens(mut self, layout: &Layout) -> nnsight_core::Result<Self> {
        self.prove_names(layout)?;
        let mut table = (*self.table).clone();
        for (name, path) in (0..table.depth).flat_map(|layer| layout.layer(layer)) {
            table.alias(&name, &path)?;
        }
        table.alias("hook_embed", layout.embed)?;
        table.alias("ln_final", layout.norm)?;
        self.table = Arc::new(table);
        Ok(self)
    }

    fn prove_names(&self, layout: &Layout) -> nnsight_core::Result<()> {
        let names = (0..self.depth()).flat_map(|layer| layout.layer(layer)).collect::<Vec<_>>();
        let count = names.len() as u32;
        let get = |site| Node { op: Op::Get { at: At::prompt(InvokeId(0)), site: SiteId(site) }, args: vec![], guards: vec![], source: SourceId(0) };
        let tokens = (0..3).map(|token| token % self.sizes().vocab as u32).collect();
        let mut sites = names.iter().map(|(_, path)| path.clone()).collect::<Vec<_>>();
        sites.push(layout.embed.to_string());
        let graph = Graph {
            signature: self.table.signature.clone(),
            invokes: vec![Invoke { prompts: vec![Prompt::Tokens(tokens)], ..Invoke::default() }],
            nodes: (0..=count).map(get).collect(),
            saves: (0..=count).map(NodeId).collect(),
            sources: vec![Source::default()],
            sites,
            ..Graph::default()
        };
        let found = self.run_with(&self.table, &[], graph, Observer::default())?;
        let found = found.into_iter().map(|saved| Ok(upcast(saved?.whole()?)?)).collect::<nnsight_core::Result<Vec<_>>>();
        let mut found = found?;
        let mut stream = found.pop().unwrap_or(Tensor::zeros(1, self.dtype(), self.device())?);
        for (names, values) in names.chunks(13).zip(found.chunks(13)) {
            let [pre, mid, post, attn, mlp, q, k, v, scores, pattern, z, neurons, gated] = values else { continue };
            let same = |index: usize, expected: &Tensor, found: &Tensor, problem: &str| same(&names[index].0, expected, found, problem);
            same(0, &stream, pre, "it is not what the layer before it gives")?;
            same(1, &(pre + attn)?, mid, "it is not `hook_resid_pre` and `hook_attn_out` added up")?;
            same(2, &(mid + mlp)?, post, "it is not `hook_resid_mid` and `hook_mlp_out` added up")?;
            same(9, &softmax(scores)?, pattern, "it is not the softmax of `hook_attn_scores`")?;
            let heads = pattern.dim(1)? / v.dim(1)?;
            let repeated = repeat_heads(v, heads)?;
            same(10, &pattern.contiguous()?.matmul(&repeated)?, z, "it is not what `hook_pattern` gathers of `hook_v`")?;
            if q.dims() != z.dims() || k.dims() != v.dims() {
                return Err(Error::WrongName {
                    name: names[5].0.clone(),
                    problem: "queries or keys do not have a row for each head".into(),
                    source_line: None,
                });
            }
            if neurons.dims() != gated.dims() {
                return Err(Error::WrongName {
                    name: names[11].0.clone(),
                    problem: "it does not have the neurons of `hook_post`".into(),
                    source_line: None,
                });
            }
            stream = post.clone();
        }
        Ok(())
    }
}

/// Each head as often as queries share it.
fn repeat_heads(x: &Tensor, times: usize) -> candle_core::Result<Tensor> {
    let (batch, heads, width, dim) = x.dims4()?;
    x.unsqueeze(2)?.expand((batch, heads, times, width, dim))?.reshape((batch, heads * times, width, dim))
}

fn same(name: &str, expected: &Tensor, found: &Tensor, problem: &str) -> nnsight_core::Result<()> {
    let wrong = |problem: String| Err(Error::WrongName { name: name.to_string(), problem, source_line: None });
    if expected.dims() != found.dims() {
        return wrong(format!("{problem}: it has the shape {:?}", found.dims()));
    }
    let wide = |x: &Tensor| x.to_dtype(candle_core::DType::F32);
    let largest = |x: Tensor| x.abs()?.max_all()?.to_scalar::<f32>();
    let (difference, scale) = (largest((wide(expected)? - wide(found)?)?)?, largest(wide(expected)?)?);
    // Half precision leaves about three digits.
    if difference > 1e-2 * scale.max(1e-3) {
        return wrong(format!("{problem}: they differ by {difference}"));
    }
    Ok(())
}
