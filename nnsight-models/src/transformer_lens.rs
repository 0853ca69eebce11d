//! The names of TransformerLens as other names of a model's paths.

use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::Error;
use nnsight_core::graph::{At, Graph, Invoke, InvokeId, Node, NodeId, Op, SiteId, Source, SourceId};
use nnsight_core::observer::Observer;
use nnsight_core::types::Dynamic;
use nnsight_kernels::{softmax, upcast};
use nnsight_lm::Prompt;

use crate::causal::{CausalAttention, CausalBlock, CausalLm};
use crate::loaded::Loaded;

/// Names of TransformerLens for the sites of one layer, and the common names that they stand for: of the layer, or after a point of its attention.
const OF_A_LAYER: [(&str, &str); 13] = [
    ("hook_resid_pre", "resid_pre"),
    ("hook_resid_mid", "resid_mid"),
    ("hook_resid_post", "resid_post"),
    ("hook_attn_out", "attn_out"),
    ("hook_mlp_out", "mlp_out"),
    ("attn.hook_q", ".q"),
    ("attn.hook_k", ".k"),
    ("attn.hook_v", ".v"),
    ("attn.hook_attn_scores", ".scores"),
    ("attn.hook_pattern", ".pattern"),
    ("attn.hook_z", ".z"),
    ("mlp.hook_pre", "mlp_pre"),
    ("mlp.hook_post", "mlp_post"),
];

/// The paths of an architecture that have common names.
#[derive(Clone, Copy)]
pub(crate) struct Paths {
    model: &'static [(&'static str, &'static str)],
    block: &'static [(&'static str, &'static str)],
    attention: &'static [(&'static str, &'static str)],
}

impl Paths {
    /// Those of a model with these sites.
    pub fn of<M: CausalLm<'static, Dynamic>>() -> Self {
        Paths {
            model: M::PATHS,
            block: <M::Block as CausalBlock<'static, Dynamic>>::PATHS,
            attention: <<M::Block as CausalBlock<'static, Dynamic>>::Attention as CausalAttention<'static, Dynamic>>::PATHS,
        }
    }

    /// The names of TransformerLens for the sites of one layer, and the paths that they stand for.
    fn layer(&self, layer: usize) -> Vec<(String, String)> {
        let own = |path: &str| format!("{}.{layer}.{path}", path_of(self.model, "layers"));
        let path = |common: &str| match common.strip_prefix('.') {
            None => own(path_of(self.block, common)),
            Some(common) => own(&format!("{}.{}", path_of(self.block, "attn"), path_of(self.attention, common))),
        };
        OF_A_LAYER.into_iter().map(|(name, common)| (format!("blocks.{layer}.{name}"), path(common))).collect()
    }

    /// The residual stream before the first layer.
    fn embed(&self) -> &'static str {
        path_of(self.model, "embed")
    }

    /// The last norm, of which the common name is that of its output.
    fn norm(&self) -> &'static str {
        let norm = path_of(self.model, "final_norm");
        norm.strip_suffix(".output").unwrap_or(norm)
    }
}

/// The path of a common name; each is there, or the architecture does not compile.
fn path_of(paths: &'static [(&'static str, &'static str)], common: &str) -> &'static str {
    paths.iter().find(|(name, _)| *name == common).map_or("", |(_, path)| path)
}

/// See [`LanguageModel::with_transformer_lens_names`](crate::LanguageModel::with_transformer_lens_names).
pub(crate) fn named_as_transformer_lens(mut model: Loaded, paths: Paths) -> nnsight_core::Result<Loaded> {
    prove_names(&model, paths)?;
    let mut table = (*model.table).clone();
    for (name, path) in (0..table.depth).flat_map(|layer| paths.layer(layer)) {
        table.alias(&name, &path)?;
    }
    table.alias("hook_embed", paths.embed())?;
    table.alias("ln_final", paths.norm())?;
    model.table = Arc::new(table);
    Ok(model)
}

fn prove_names(model: &Loaded, paths: Paths) -> nnsight_core::Result<()> {
    let names = (0..model.depth()).flat_map(|layer| paths.layer(layer)).collect::<Vec<_>>();
    let count = names.len() as u32;
    let get = |site| Node { op: Op::Get { at: At::first(InvokeId(0)), site: SiteId(site) }, args: vec![], guards: vec![], source: SourceId(0) };
    let tokens = (0..3).map(|token| token % model.sizes().vocab as u32).collect();
    let mut sites = names.iter().map(|(_, path)| path.clone()).collect::<Vec<_>>();
    sites.push(paths.embed().to_string());
    let graph = Graph {
        signature: model.table.signature.clone(),
        invokes: vec![Invoke { inputs: vec![Prompt::Tokens(tokens).into()], ..Invoke::default() }],
        nodes: (0..=count).map(get).collect(),
        saves: (0..=count).map(NodeId).collect(),
        sources: vec![Source::default()],
        sites,
        ..Graph::default()
    };
    let found = model.run_with(&model.table, &[], graph, Observer::default())?;
    let found = found.into_iter().map(|saved| Ok(upcast(saved?.whole()?)?)).collect::<nnsight_core::Result<Vec<_>>>();
    let mut found = found?;
    let mut stream = found.pop().unwrap_or(Tensor::zeros(1, model.dtype(), model.device())?);
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
