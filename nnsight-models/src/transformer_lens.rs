//! The names of TransformerLens as other names of a model's paths.

use std::sync::Arc;

use candle_core::Tensor;
use nnsight_core::Error;
use nnsight_core::graph::{At, Graph, Invoke, InvokeId, Node, NodeId, Op, SiteId, Source, SourceId};
use nnsight_core::observer::Observer;
use nnsight_kernels::{softmax, upcast};
use nnsight_lm::Prompt;

use crate::layout::Layout;
use crate::loaded::Loaded;

/// See [`LanguageModel::with_transformer_lens_names`](crate::LanguageModel::with_transformer_lens_names).
pub(crate) fn named_as_transformer_lens(mut model: Loaded, layout: &Layout) -> nnsight_core::Result<Loaded> {
    prove_names(&model, layout)?;
    let mut table = (*model.table).clone();
    for (name, path) in (0..table.depth).flat_map(|layer| layout.layer(layer)) {
        table.alias(&name, &path)?;
    }
    table.alias("hook_embed", layout.embed)?;
    table.alias("ln_final", layout.norm)?;
    model.table = Arc::new(table);
    Ok(model)
}

fn prove_names(model: &Loaded, layout: &Layout) -> nnsight_core::Result<()> {
    let names = (0..model.depth()).flat_map(|layer| layout.layer(layer)).collect::<Vec<_>>();
    let count = names.len() as u32;
    let get = |site| Node { op: Op::Get { at: At::first(InvokeId(0)), site: SiteId(site) }, args: vec![], guards: vec![], source: SourceId(0) };
    let tokens = (0..3).map(|token| token % model.sizes().vocab as u32).collect();
    let mut sites = names.iter().map(|(_, path)| path.clone()).collect::<Vec<_>>();
    sites.push(layout.embed.to_string());
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
