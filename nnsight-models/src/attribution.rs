//! How much each entry of the input adds to a metric.

use std::panic::Location;

use candle_core::{DType, Tensor as Candle};
use nnsight_core::Error;
use nnsight_core::trace::{Traced as _, Value, invoke, run, tracer};
use nnsight_core::types::{Batch, One, Part, Signature, Tensor};
use nnsight_lm::{Hidden, IntoPrompts, Language, Seq, Vocab};

use crate::causal::CausalLm;
use crate::language_model::LanguageModel;
use crate::network::Network;

/// Integrated gradients (Sundararajan et al. 2017): the way from a baseline of zeros to the embeddings of a prompt, along which the gradient
/// of a metric is summed up. The entries add up to the metric at the prompt minus the metric at the baseline, the better the more `steps`
/// there are. All steps run in one batch.
///
/// `metric` gives a number for each prompt from the logits at its last position.
///
/// # Shapes
/// The result is `(Batch, Seq, Hidden)`; summed over `Hidden` it is what each token adds.
///
/// # Errors
/// [`Error::NoSteps`], [`Error::EmptyInvoke`] without a prompt, and what a trace fails with.
///
/// # Examples
/// ```no_run
/// use nnsight_core::trace::Traced;
/// use nnsight_lm::Vocab;
/// use nnsight_models::{Llama, SmolLm2_135M, Source, integrated_gradients};
/// let model = Llama::<SmolLm2_135M>::load(Source::default())?;
/// let paris = model.tokenizer().token(" Paris")?;
/// let attribution = integrated_gradients(&model, "The Eiffel Tower is in", 32, |logits| logits.pick(Vocab, paris))?;
/// # Ok::<(), nnsight_models::Error>(())
/// ```
#[track_caller]
pub fn integrated_gradients<N, C, F>(
    model: &LanguageModel<N, C>,
    prompt: impl IntoPrompts,
    steps: usize,
    metric: F,
) -> nnsight_core::Result<Tensor<C, (Batch, Seq, Hidden)>>
where
    N: Network<Kind = Language>,
    C: Signature,
    for<'t> N::Sites<'t, C>: CausalLm<'t, C>,
    F: for<'t> FnOnce(Value<'t, C, (Batch, Vocab)>) -> Value<'t, C, (Batch,)>,
{
    let prompts = prompt.into_prompts();
    let place = Location::caller();
    let place = || Some(place.into());
    if steps == 0 {
        return Err(Error::NoSteps { source_line: place() });
    }
    if prompts.is_empty() {
        return Err(Error::EmptyInvoke { invoke: 0, source_line: place() });
    }
    // Every step has a row for each prompt, and stands in the middle of its part of the way.
    let rows = (0..steps).flat_map(|_| prompts.iter().cloned()).collect::<Vec<_>>();
    let way = (0..rows.len()).map(|row| ((row / prompts.len()) as f32 + 0.5) / steps as f32).collect::<Vec<_>>();
    let way = Tensor::<C, (Batch, One, One)>::new(Candle::from_vec(way, (rows.len(), 1, 1), &candle_core::Device::Cpu)?)?;

    let tracer = tracer(model);
    let sites = invoke(model, &tracer, rows);
    let embeddings = sites.embed().value();
    sites.embed().__assign(embeddings * &way);
    let here = sites.embed().value();
    let total = metric(sites.logits().at(Seq, -1).value()).sum_all();
    let (embeddings, gradients) = run(model, &tracer, (embeddings, here.grad(total)))?;

    let (_, width, hidden) = gradients.padded().dims3()?;
    let mean = gradients.padded().to_dtype(DType::F32)?.reshape((steps, prompts.len(), width, hidden))?.mean(0)?;
    // The prompts may differ in length: the result has the rows of those of the first step.
    let first = embeddings.slice(Batch, ..prompts.len() as i64)?.rename(Part(Batch), Batch);
    let entries = (mean * first.padded().to_dtype(DType::F32)?)?;
    first.with_padded(entries)
}
