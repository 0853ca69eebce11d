//! A sweep that shows how far it is, and goes on from a file where it was interrupted.

use std::collections::HashMap;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use super::Traceable;
use crate::graph::{Graph, Op, Unused};
use crate::run::{Progress, Watch};
use crate::types::Saved;
use crate::{Error, Result};

/// Between two times that the file is written or the terminal told.
const PAUSE: Duration = Duration::from_secs(1);

/// The name of the tensor that says to which sweep a file belongs.
const SWEEP: &str = "sweep";

/// Runs a sweep's graph. Results that the file holds are not computed again, and new ones are written to it as they come; on a terminal it
/// says how far it is.
pub(super) fn run<M: Traceable>(model: &M, graph: Graph, file: Option<&Path>) -> Result<Vec<Result<Saved>>> {
    let mut checkpoint = file.map(|file| Checkpoint::open(file, &graph)).transpose()?;
    let mut graph = graph;
    let count = graph.saves.len();
    let known = checkpoint.as_ref().map(|checkpoint| checkpoint.known.clone()).unwrap_or_default();
    let rest = (0..count).filter(|place| !known.contains_key(place)).collect::<Vec<_>>();
    graph.saves = rest.iter().map(|&place| graph.saves[place]).collect();
    if !known.is_empty() {
        // What has an effect at points that are done only is no mistake.
        for node in &mut graph.nodes {
            if let Op::Set { unused, .. } | Op::Skip { unused, .. } = &mut node.op
                && *unused == Unused::Sweep
            {
                *unused = Unused::Drop;
            }
        }
    }
    let found = match rest.is_empty() {
        true => Vec::new(),
        false => {
            let mut bar = Bar::new();
            let mut failed = None;
            let mut on_batch = |progress: Progress| {
                bar.show(&progress);
                if let (Some(checkpoint), None) = (&mut checkpoint, &failed) {
                    let new = progress.saved.into_iter().map(|(place, tensor)| (rest[place], tensor));
                    failed = checkpoint.add(new, progress.done >= progress.of).err();
                }
            };
            let found = model.run(graph, Watch { on_batch: Some(&mut on_batch), ..Watch::default() })?;
            if let Some(error) = failed {
                return Err(error);
            }
            found
        }
    };
    let mut found = rest.into_iter().zip(found).collect::<HashMap<_, _>>();
    let results = (0..count).map(|place| match known.get(&place) {
        Some(tensor) => Ok(tensor.clone().into()),
        None => found.remove(&place).unwrap_or(Err(Error::NoPoints)),
    });
    Ok(results.collect())
}

/// The results so far, and their file.
struct Checkpoint {
    file: PathBuf,
    sweep: i64,
    known: HashMap<usize, Tensor>,
    written: Instant,
}

impl Checkpoint {
    fn open(file: &Path, graph: &Graph) -> Result<Self> {
        let sweep = fingerprint(graph)?;
        let mut known = HashMap::new();
        if file.exists() {
            let other = |problem: String| Error::OtherSweep { path: file.display().to_string(), problem };
            let mut held = candle_core::safetensors::load(file, &Device::Cpu).map_err(|error| other(error.to_string()))?;
            let mark = held.remove(SWEEP).and_then(|mark| mark.to_vec1::<i64>().ok());
            if mark != Some(vec![sweep]) {
                return Err(other("its prompts, points or block are others".into()));
            }
            for (name, tensor) in held {
                let place = name.parse::<usize>().ok().filter(|&place| place < graph.saves.len());
                known.insert(place.ok_or_else(|| other(format!("there is no result `{name}`")))?, tensor);
            }
        }
        Ok(Checkpoint { file: file.to_path_buf(), sweep, known, written: Instant::now() })
    }

    fn add(&mut self, new: impl Iterator<Item = (usize, Saved)>, is_last: bool) -> Result<()> {
        for (place, saved) in new {
            if let Some(lengths) = saved.lengths() {
                return Err(Error::RowsIntoCheckpoint { lengths });
            }
            let tensor = saved.whole()?;
            self.known.insert(place, tensor.to_device(&Device::Cpu)?);
        }
        if !is_last && self.written.elapsed() < PAUSE {
            return Ok(());
        }
        let mut all = self.known.iter().map(|(place, tensor)| (place.to_string(), tensor.clone())).collect::<HashMap<_, _>>();
        all.insert(SWEEP.to_string(), Tensor::new(&[self.sweep], &Device::Cpu)?);
        // Written beside it and moved into its place, so that it is whole whenever the program ends.
        let beside = self.file.with_extension("part");
        candle_core::safetensors::save(&all, &beside)?;
        std::fs::rename(&beside, &self.file).map_err(candle_core::Error::wrap)?;
        self.written = Instant::now();
        Ok(())
    }
}

/// A number that is another one for another sweep (FNV-1a of the graph without its places in the program).
fn fingerprint(graph: &Graph) -> Result<i64> {
    let mut graph = graph.clone();
    graph.sources.iter_mut().for_each(|source| *source = Default::default());
    let hash = graph.to_msgpack()?.into_iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Ok(hash as i64)
}

/// What the terminal shows of a run that takes long.
struct Bar {
    start: Instant,
    shown: Option<Instant>,
    on_terminal: bool,
}

impl Bar {
    fn new() -> Self {
        Bar { start: Instant::now(), shown: None, on_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: &Progress) {
        let since = self.shown.unwrap_or(self.start);
        if self.on_terminal && since.elapsed() >= PAUSE && progress.done < progress.of {
            self.shown = Some(Instant::now());
            // Beside it there is nobody to be told.
            _ = write!(std::io::stderr(), "\r\x1b[2K{}", line(progress.done, progress.of, self.start.elapsed()));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

/// How much is done, as a bar, and how long the rest will take if it goes on like this.
fn line(done: usize, of: usize, elapsed: Duration) -> String {
    let share = done as f64 / of.max(1) as f64;
    let filled = (share * 30.0) as usize;
    let rest = elapsed.as_secs_f64() * (1.0 - share) / share.max(1e-6);
    format!("[{}{}] {:3.0} %, about {:.0} s left", "#".repeat(filled), " ".repeat(30 - filled), share * 100.0, rest.min(1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_much_is_done_and_how_long_it_will_take() {
        assert_eq!(line(1, 3, Duration::from_secs(10)), format!("[{}{}]  33 %, about 20 s left", "#".repeat(10), " ".repeat(20)));
        assert!(line(0, 3, Duration::ZERO).starts_with("[                              ]   0 %"));
    }
}
