//! The experiments that interpretability researchers run all day.

use std::path::Path;
use std::process::Command;

use candle_core::Tensor as Candle;
use nnsight::prelude::*;

use crate::figure::{Figure, several};
use crate::limits::Limits;
use crate::passes::sequence;
use crate::peers::{Peers, Said};
use crate::{Model, Result};

/// Prompts, and what is asked of them.
pub struct Experiments {
    far: [Vec<u32>; 2],
    ioi: [Vec<u32>; 2],
    answers: [u32; 2],
    generation: Vec<u32>,
    direction: Vec<f32>,
}

const PROMPT: &str = "The Eiffel Tower is in the city of";

impl Experiments {
    /// The prompts in a model's tokens.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn new(model: &Model) -> Result<Self> {
        let tokens = |text: &str| model.tokenizer().encode(text);
        let clean = tokens("When John and Mary went to the store, John gave a drink to")?;
        let direction = trace!(model, {
            let love = invoke!(" I love this, it is wonderful", { model.layers[9].output.at(Seq, -1) });
            let hate = invoke!(" I hate this, it is terrible", { model.layers[9].output.at(Seq, -1) });
            (love - hate) * 2.5
        })?;
        Ok(Experiments {
            far: [clean.clone(), tokens("After John and Mary went to the store, Mary gave a drink to")?],
            ioi: [clean, tokens("When John and Mary went to the store, Mary gave a drink to")?],
            answers: [model.tokenizer().token(" Mary")?, model.tokenizer().token(" John")?],
            generation: tokens("I feel")?,
            direction: direction.flatten_all()?.to_vec1()?,
        })
    }

    /// For the peers.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let json = serde_json::json!({
            "far": self.far, "ioi": self.ioi, "answers": self.answers, "generation": self.generation, "direction": self.direction,
            "sequence": sequence(128), "prompt": PROMPT,
        });
        Ok(std::fs::write(file, json.to_string())?)
    }

    fn grid(&self, model: &Model, [clean, corrupted]: &[Vec<u32>; 2]) -> Result<Vec<f32>> {
        let [right, wrong] = self.answers;
        let clean = trace!(model, clean, { model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>() })?;
        let grid = sweep!(
            model,
            corrupted,
            for (layer, position) in grid(0..model.depth(), 0..corrupted.len()) {
                model.layers[layer].output.at(Seq, position) = clean[layer].at(Seq, position as i64);
                let logits = model.lm_head.output.at(Seq, -1);
                logits.pick(Vocab, right) - logits.pick(Vocab, wrong)
            }
        )?;
        Ok(grid.flatten_all()?.to_vec1()?)
    }

    fn heads(&self, model: &Model) -> Result<Vec<f32>> {
        let [right, wrong] = self.answers;
        let grid = sweep!(
            model,
            &self.ioi[1],
            for (layer, head) in grid(0..model.depth(), 0..9) {
                model.layers[layer].self_attn.z.at(Heads, head) = 0.0;
                let logits = model.lm_head.output.at(Seq, -1);
                logits.pick(Vocab, right) - logits.pick(Vocab, wrong)
            }
        )?;
        Ok(grid.flatten_all()?.to_vec1()?)
    }

    fn lens(&self, model: &Model) -> Result<Vec<f32>> {
        let rows =
            trace!(model, &self.ioi[1], { model.layers.iter().map(|layer| model.lm_head(model.norm(layer.output)).max(Vocab)).collect::<Vec<_>>() })?;
        rows.iter().map(|row| Ok(row.flatten_all()?.to_vec1()?)).collect::<Result<Vec<Vec<f32>>>>().map(|rows| rows.concat())
    }

    fn attribution(&self, model: &Model) -> Result<Vec<f32>> {
        let [right, wrong] = self.answers;
        let rows = trace!(model, {
            let clean = invoke!(&self.ioi[0], { model.layers.iter().map(|layer| layer.output.value()).collect::<Vec<_>>() });
            invoke!(&self.ioi[1], {
                let logits = model.lm_head.output.at(Seq, -1);
                let difference = logits.pick(Vocab, right) - logits.pick(Vocab, wrong);
                let effects = model.layers.iter().zip(&clean).map(|(layer, clean)| {
                    let h = layer.output;
                    ((*clean - h) * h.grad(difference)).sum(Hidden)
                });
                effects.collect::<Vec<_>>()
            })
        })?;
        rows.iter().map(|row| Ok(row.flatten_all()?.to_vec1()?)).collect::<Result<Vec<Vec<f32>>>>().map(|rows| rows.concat())
    }

    fn generation(&self, model: &Model) -> Result<Vec<f32>> {
        let direction = Tensor::<SmolLm2_135M, (Hidden,)>::new(Candle::new(&*self.direction, &Device::Cpu)?)?;
        let tokens = generate!(model, &self.generation, max_new_tokens = 20, {
            for step in model.steps(..) {
                step.layers[9].output += &direction;
            }
            model.tokens()
        })?;
        Ok(tokens.flatten_all()?.to_vec1::<i64>()?.into_iter().map(|token| token as f32).collect())
    }

    /// Runs everything, and compares it with the peers.
    ///
    /// # Errors
    /// What an experiment fails with.
    pub fn figures(&self, model: &Model, folder: &Path, peers: &Peers) -> Result<Vec<Figure>> {
        let mut report = Report { peers, figures: Vec::new() };
        for (name, pair, bars) in [("far", &self.far, ["≥ 16", "≥ 4", "≥ 14"]), ("ioi", &self.ioi, ["≥ 60", "≥ 15", "≥ 50"])] {
            let name = format!("patch grid, {name}");
            let ours = report.run(3, || self.grid(model, pair))?;
            report.nnsight(&name, &format!("{name}, one by one"), &ours, bars[0]);
            report.nnsight(&name, &format!("{name}, batched"), &ours, bars[1]);
            report.candle_mi(&name, &ours, bars[2]);
        }
        let ours = report.run(3, || self.heads(model))?;
        report.nnsight("head ablation", "head ablation, one by one", &ours, "≥ 12");
        report.nnsight("head ablation", "head ablation, batched", &ours, "≥ 3");
        let ours = report.run(9, || self.lens(model))?;
        report.nnsight("logit lens", "logit lens", &ours, "≥ 3");
        let ours = report.run(9, || self.attribution(model))?;
        report.nnsight("attribution patching", "attribution patching", &ours, "≥ 2");
        let ours = report.run(5, || self.generation(model))?;
        report.nnsight("generation, steered", "generation, steered", &ours, "≥ 1.6");
        let eight_bits = Model::load(Source::from(folder).weights(WeightFormat::Q8_0))?;
        let ours = report.run(5, || self.generation(&eight_bits))?;
        report.nnsight("generation, steered, 8-bit weights", "generation, steered", &ours, "≥ 4");
        drop(eight_bits);
        self.passes(model, &mut report)?;
        let ours = report.run(5, || script_in_process(folder))?;
        report.nnsight("whole script", "whole script", &ours, "≥ 8");
        Ok(report.figures)
    }

    fn passes(&self, model: &Model, report: &mut Report<'_>) -> Result<()> {
        let limits = Limits::measure()?;
        let sizes = model.sizes();
        let layer = 2 * sizes.hidden * (sizes.heads_hidden + sizes.kv_hidden) + 3 * sizes.hidden * sizes.mlp;
        let (layers, head) = (sizes.layers * layer, sizes.hidden * sizes.vocab);
        for (length, last, bar) in [(14, false, "≥ 1.8"), (128, false, "≥ 1.0"), (128, true, "≥ 1.2")] {
            let tokens = sequence(length);
            let ours = report.run(21, || match last {
                false => Ok(trace!(model, &tokens, { model.lm_head.output })?.narrow(2, 0, 8)?.flatten_all()?.to_vec1()?),
                true => Ok(trace!(model, &tokens, { model.lm_head.output.at(Seq, -1) })?.narrow(1, 0, 64)?.flatten_all()?.to_vec1()?),
            })?;
            let name = format!("traced pass, {length} tokens, {} logits", if last { "last" } else { "all" });
            report.nnsight(&name, &name, &ours, bar);
            if length == 14 {
                let limit = limits.pass(layers + head, length);
                report.add(Figure {
                    name,
                    ours_ms: ours.ms,
                    peer: "this machine's limit",
                    peer_ms: Some(limit),
                    ratio: Some(limit / ours.ms),
                    bar: format!("≥ 0.67 ({:.0} GFLOP/s, {:.0} GB/s)", limits.gflops, limits.gigabytes),
                    ..Figure::default()
                });
            }
        }
        Ok(())
    }
}

/// Loads, traces once and prints, as a program of its own.
///
/// # Errors
/// Where the model cannot be loaded.
pub fn script(folder: &Path) -> Result<()> {
    let model = Model::load(folder)?;
    let logits = trace!(model, PROMPT, { model.lm_head.output.at(Seq, -1) })?;
    println!("{}", serde_json::to_string(&logits.narrow(1, 0, 16)?.flatten_all()?.to_vec1::<f32>()?)?);
    Ok(())
}

fn script_in_process(folder: &Path) -> Result<Vec<f32>> {
    let output = Command::new(std::env::current_exe()?).arg("--script").arg(folder).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The figures so far.
struct Report<'a> {
    peers: &'a Peers,
    figures: Vec<Figure>,
}

impl Report<'_> {
    /// Times an experiment: the median of some runs.
    fn run(&self, runs: usize, mut experiment: impl FnMut() -> Result<Vec<f32>>) -> Result<Said> {
        let values = experiment()?.into_iter().map(f64::from).collect();
        Ok(Said { ms: several(runs, || experiment().map(drop))?, values })
    }

    fn nnsight(&mut self, name: &str, theirs: &str, ours: &Said, bar: &str) {
        self.compare(name, if theirs.ends_with("batched") { "nnsight, batched" } else { "nnsight" }, self.peers.nnsight.get(theirs), ours, bar);
    }

    fn candle_mi(&mut self, name: &str, ours: &Said, bar: &str) {
        self.compare(name, "candle-mi", self.peers.candle_mi.get(name), ours, bar);
    }

    fn compare(&mut self, name: &str, peer: &'static str, theirs: Option<&Said>, ours: &Said, bar: &str) {
        let difference = theirs.map(|theirs| match theirs.values.len() == ours.values.len() {
            true => ours.values.iter().zip(&theirs.values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
            false => f64::INFINITY,
        });
        let figure = Figure {
            name: name.into(),
            ours_ms: ours.ms,
            peer,
            peer_ms: theirs.map(|theirs| theirs.ms),
            ratio: theirs.map(|theirs| theirs.ms / ours.ms),
            bar: bar.into(),
            max_difference: difference,
        };
        self.add(figure);
    }

    fn add(&mut self, figure: Figure) {
        println!("{figure}");
        self.figures.push(figure);
    }
}
