//! Forward passes and what tracing adds to them, against candle-transformers on the same weights.

use std::path::Path;
use std::process::Command;

use candle_core::Tensor as Candle;
use nnsight::graph::Limits;
use nnsight::prelude::*;

use crate::figure::{Figure, median, pair, several};
use crate::{Model, Peer, Result};

/// All of them.
///
/// # Errors
/// What a pass fails with.
pub fn all(model: &Model, folder: &Path) -> Result<Vec<Figure>> {
    let peer = Peer::load(folder)?;
    let mut figures = Vec::new();
    for length in [1, 14, 128] {
        figures.extend(passes(model, &peer, length)?);
    }
    figures.push(thousand_nodes(model)?);
    figures.push(building(model)?);
    Ok(figures)
}

/// Tokens without a meaning.
pub fn sequence(length: usize) -> Vec<u32> {
    (0..length as u32).map(|index| (index * 7919 + 504) % 49152).collect()
}

fn passes(model: &Model, peer: &Peer, length: usize) -> Result<Vec<Figure>> {
    let tokens = sequence(length);
    let prompt = [Prompt::Tokens(tokens.clone())];
    // As many as bring what the machine does by itself below the percent that is asked for.
    let runs = match length {
        1 | 14 => 151,
        _ => 41,
    };
    let expected = peer.next_logits(&tokens)?;
    let plain = || Ok(model.next_logits(&prompt)?);
    let one = || Ok(trace!(model, &prompt[0], { model.lm_head.output.at(Seq, -1) })?.into_inner());
    let all = || {
        let (layers, logits) =
            trace!(model, &prompt[0], { (model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>(), model.lm_head.output.at(Seq, -1)) })?;
        assert_eq!(layers.len(), 30);
        Ok(logits.into_inner())
    };
    let mut figures = Vec::new();
    let mut compare =
        |name: &str, bar: &str, ours: &dyn Fn() -> Result<Candle>, theirs: &dyn Fn() -> Result<Candle>, peer: &'static str| -> Result<()> {
            let difference = (ours()? - &expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            let [ours_ms, peer_ms, ratio] = pair(runs, || ours().map(drop), || theirs().map(drop))?;
            figures.push(Figure {
                name: format!("{length} tokens: {name}"),
                ours_ms,
                peer,
                peer_ms: Some(peer_ms),
                ratio: Some(ratio),
                bar: bar.into(),
                max_difference: Some(f64::from(difference)),
            });
            Ok(())
        };
    compare("untouched pass", "≥ 1.00", &plain, &|| Ok(peer.next_logits(&tokens)?), "candle-transformers")?;
    compare("one traced value", "≥ 0.99", &one, &plain, "untouched pass")?;
    compare("all 30 layers' outputs saved", "≥ 0.98", &all, &plain, "untouched pass")?;
    Ok(figures)
}

/// A trace with a thousand nodes: what a probe or a metric does with one position.
fn thousand(model: &Model, prompt: &Prompt) -> Result<Graph> {
    Ok(nnsight::graph!(model, prompt, {
        let mut sum = model.layers[0].output.at(Seq, -1) * 0.0;
        for layer in model.layers {
            for _ in 0..8 {
                sum += layer.output.at(Seq, -1) * 0.5;
            }
        }
        model.layers[29].output.at(Seq, -1) += sum * 0.0;
        model.lm_head.output.at(Seq, -1)
    })?)
}

fn thousand_nodes(model: &Model) -> Result<Figure> {
    use nnsight::trace::Traceable;
    let prompt = Prompt::Text("When John and Mary went to the store, John gave a drink to".into());
    let graph = thousand(model, &prompt)?;
    let plain = [prompt];
    let difference = (&model.execute(graph.clone())?[0] - model.next_logits(&plain)?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    let run = || Ok(model.execute(graph.clone()).map(drop)?);
    let [ours_ms, peer_ms, ratio] = pair(101, run, || Ok(model.next_logits(&plain).map(drop)?))?;
    Ok(Figure {
        name: format!("14 tokens: a graph of {} nodes", graph.nodes.len()),
        ours_ms,
        peer: "untouched pass",
        peer_ms: Some(peer_ms),
        ratio: Some(ratio),
        bar: "≥ 0.95".into(),
        max_difference: Some(f64::from(difference)),
    })
}

fn building(model: &Model) -> Result<Figure> {
    let prompt = Prompt::Tokens(vec![1; 14]);
    let ours_ms = several(50, || Ok(thousand(model, &prompt)?.validate(&Limits::default())?))?;
    Ok(Figure { name: "building and validating it".into(), ours_ms, bar: "< 1 ms".into(), ..Figure::default() })
}

/// Loads a model and traces once, in a process of its own; prints the peak of its memory in kB.
///
/// # Errors
/// Where the model cannot be loaded.
pub fn start_up(folder: &Path) -> Result<()> {
    let model = Model::load(folder)?;
    let logits = trace!(model, "The Eiffel Tower is in the city of", { model.lm_head.output.at(Seq, -1) })?;
    assert!(model.tokenizer().decode_top(&logits, 1)?.contains("Paris"));
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|rest| rest.split_whitespace().next());
    println!("{}", peak.ok_or("no peak memory on this system")?);
    Ok(())
}

/// The time and memory of a process that loads a model and traces once.
///
/// # Errors
/// Where it fails.
pub fn process(folder: &Path) -> Result<Vec<Figure>> {
    let (mut times, mut peak) = (Vec::new(), 0.0);
    for _ in 0..6 {
        let start = std::time::Instant::now();
        let output = Command::new(std::env::current_exe()?).arg("--start-up").arg(folder).output()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        peak = String::from_utf8(output.stdout)?.trim().parse::<f64>()?;
    }
    let weights = std::fs::metadata(folder.join("model.safetensors"))?.len() as f64;
    let figure = |name: &str, ours_ms, bar: &str| Figure { name: name.into(), ours_ms, bar: bar.into(), ..Figure::default() };
    Ok(vec![
        figure("start, load, first traced result", median(times), "≤ 1200 ms"),
        figure("peak memory over the size of the weights", peak * 1024.0 / weights, "≤ 1.3"),
    ])
}
