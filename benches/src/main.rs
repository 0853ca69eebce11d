//! Times of a forward pass, of tracing and of loading, against candle-transformers on the same weights.
//!
//! `cargo run --release -p nnsight-benches [-- --json FILE]`

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::Tensor as Candle;
use nnsight::graph::Limits;
use nnsight::prelude::*;
use nnsight_benches::Peer;

/// What glibc's allocator gives back to the system and asks for again costs more than tracing does (docs/performance.md); with this one the
/// figures are those of the computation. It serves both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Model = Llama<SmolLm2_135M>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One comparison.
#[derive(Default)]
struct Figure {
    name: String,
    ours_ms: f64,
    peer: &'static str,
    peer_ms: Option<f64>,
    /// Our time over the peer's, the median pair by pair.
    share: Option<f64>,
    bar: String,
    max_difference: Option<f64>,
}

fn main() -> Result<()> {
    let arguments = std::env::args().collect::<Vec<_>>();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--start-up", folder] => return start_up(Path::new(folder)),
        [_, "--convert", folder] => return Ok(Model::convert(Source::default(), Path::new(folder))?),
        _ => {}
    }
    let folder = tempfile::tempdir()?;
    // In a process of its own: what it frees would decide where the weights come to lie, and so how fast they are read.
    Command::new(std::env::current_exe()?).arg("--convert").arg(folder.path()).status()?;
    let model = Model::load(folder.path())?;
    let peer = Peer::load(folder.path())?;
    let mut figures = Vec::new();
    for length in [1, 14, 128] {
        figures.extend(passes(&model, &peer, length)?);
    }
    figures.push(thousand_nodes(&model)?);
    figures.push(building(&model)?);
    drop((model, peer));
    figures.extend(process(folder.path())?);
    for figure in &figures {
        let peer = figure.peer_ms.zip(figure.share);
        let peer = peer.map_or(String::new(), |(peer_ms, share)| format!("{} {peer_ms:.2} ms, ours / theirs {share:.3}", figure.peer));
        let difference = figure.max_difference.map_or(String::new(), |difference| format!(", differs by {difference:.1e}"));
        println!("{:<58} {:>9.2}   {peer}{difference}   [{}]", figure.name, figure.ours_ms, figure.bar);
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--json") {
        let file = arguments.get(at + 1).ok_or("--json needs a file")?;
        std::fs::write(file, json(&figures))?;
    }
    Ok(())
}

/// The medians of both and of the ratio pair by pair, after a warm-up. Which of a pair runs first changes from one to the next, so that
/// neither a drift of the machine nor what the other leaves behind counts for either.
fn pair(runs: usize, mut a: impl FnMut() -> Result<()>, mut b: impl FnMut() -> Result<()>) -> Result<[f64; 3]> {
    fn time(run: &mut impl FnMut() -> Result<()>) -> Result<f64> {
        let start = Instant::now();
        run()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
    let (mut times_a, mut times_b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs + 2 {
        let (time_a, time_b) = match run % 2 {
            0 => (time(&mut a)?, time(&mut b)?),
            _ => {
                let time_b = time(&mut b)?;
                (time(&mut a)?, time_b)
            }
        };
        if run >= 2 {
            times_a.push(time_a);
            times_b.push(time_b);
            ratios.push(time_a / time_b);
        }
    }
    Ok([median(times_a), median(times_b), median(ratios)])
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn passes(model: &Model, peer: &Peer, length: usize) -> Result<Vec<Figure>> {
    let tokens = (0..length as u32).map(|index| (index * 7919 + 504) % 49152).collect::<Vec<_>>();
    let prompt = [Prompt::Tokens(tokens.clone())];
    let runs = match length {
        1 => 61,
        14 => 41,
        _ => 21,
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
            let [ours_ms, peer_ms, share] = pair(runs, || ours().map(drop), || theirs().map(drop))?;
            figures.push(Figure {
                share: Some(share),
                name: format!("{length} tokens: {name} (ms)"),
                ours_ms,
                peer,
                peer_ms: Some(peer_ms),
                bar: bar.into(),
                max_difference: Some(f64::from(difference)),
            });
            Ok(())
        };
    compare("untouched pass", "≤ 1.00", &plain, &|| Ok(peer.next_logits(&tokens)?), "candle-transformers")?;
    compare("one traced value", "≤ 1.01", &one, &plain, "untouched pass")?;
    compare("all 30 layers' outputs saved", "≤ 1.02", &all, &plain, "untouched pass")?;
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
    let [ours_ms, peer_ms, share] = pair(41, run, || Ok(model.next_logits(&plain).map(drop)?))?;
    Ok(Figure {
        share: Some(share),
        name: format!("14 tokens: a graph of {} nodes (ms)", graph.nodes.len()),
        ours_ms,
        peer: "untouched pass",
        peer_ms: Some(peer_ms),
        bar: "≤ 1.05".into(),
        max_difference: Some(f64::from(difference)),
    })
}

fn building(model: &Model) -> Result<Figure> {
    let prompt = Prompt::Tokens(vec![1; 14]);
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        let graph = thousand(model, &prompt)?;
        graph.validate(&Limits::default())?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Figure { name: "building and validating it (ms)".into(), ours_ms: median(times), bar: "< 1 ms".into(), ..Figure::default() })
}

/// Loads a model and traces once, in a process of its own; prints the peak of its memory in kB.
fn start_up(folder: &Path) -> Result<()> {
    let model = Model::load(folder)?;
    let logits = trace!(model, "The Eiffel Tower is in the city of", { model.lm_head.output.at(Seq, -1) })?;
    assert!(model.tokenizer().decode_top(&logits, 1)?.contains("Paris"));
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|rest| rest.split_whitespace().next());
    println!("{}", peak.ok_or("no peak memory on this system")?);
    Ok(())
}

fn process(folder: &Path) -> Result<Vec<Figure>> {
    let (mut times, mut peak) = (Vec::new(), 0.0);
    for _ in 0..6 {
        let start = Instant::now();
        let output = Command::new(std::env::current_exe()?).arg("--start-up").arg(folder).output()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        peak = String::from_utf8(output.stdout)?.trim().parse::<f64>()?;
    }
    let weights = std::fs::metadata(folder.join("model.safetensors"))?.len() as f64;
    Ok(vec![
        Figure { name: "start, load, first traced result (ms)".into(), ours_ms: median(times), bar: "≤ 1200 ms".into(), ..Figure::default() },
        Figure {
            name: "peak memory over the size of the weights".into(),
            ours_ms: peak * 1024.0 / weights,
            bar: "≤ 1.3".into(),
            ..Figure::default()
        },
    ])
}

fn json(figures: &[Figure]) -> String {
    let figures = figures.iter().map(|figure| {
        serde_json::json!({
            "name": figure.name, "ours_ms": figure.ours_ms, "peer": figure.peer, "peer_ms": figure.peer_ms,
            "ratio": figure.share.map(|share| 1.0 / share), "bar": figure.bar, "max_difference": figure.max_difference,
        })
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    serde_json::json!({ "figures": figures.collect::<Vec<_>>(), "machine": format!("{} cores, {}", cores, std::env::consts::ARCH) }).to_string()
}
