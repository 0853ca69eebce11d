//! A sweep that shows how far it is, and goes on from a file where it was interrupted.

use std::collections::HashMap;
use std::io::{IsTerminal, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use super::fingerprint::{Fingerprint, START, fold};
use super::{Edits, Traceable};
use crate::graph::{Facts, Graph, KindTag, Op, Unused, kind_of};
use crate::observer::{Observer, Progress};
use crate::types::Saved;
use crate::{Error, Result};

/// Between two times that the file is written or the terminal told.
const PAUSE: Duration = Duration::from_secs(1);

/// The name of the tensor that says to which sweep a file belongs.
const SWEEP: &str = "sweep";

/// Runs a sweep's graph. Results that the file holds are not computed again, and new ones are written to it as they come; on a terminal it
/// says how far it is.
pub(super) fn run<M: Traceable>(model: &M, graph: Graph, file: Option<&Path>) -> Result<Vec<Result<Saved>>> {
    let mut checkpoint = file.map(|file| Checkpoint::open(file, model, &graph)).transpose()?;
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
            let mut written = Ok(());
            let mut on_batch = |progress: Progress| {
                bar.show(&progress);
                if let Some(checkpoint) = &mut checkpoint {
                    let new = progress.saved.into_iter().map(|(place, tensor)| (rest[place], tensor));
                    // Where a writing fails, the next may not: there are as many results in it as before, and more.
                    if let Some(result) = checkpoint.add(new, progress.done >= progress.of) {
                        written = result;
                    }
                }
            };
            let found = model.run(graph, Observer { on_batch: Some(&mut on_batch), ..Observer::default() })?;
            written?;
            if checkpoint.is_some() {
                for saved in found.iter().flatten() {
                    if let Some(lengths) = saved.lengths() {
                        return Err(Error::RowsIntoCheckpoint { lengths, source_line: None });
                    }
                    saved.whole()?;
                }
            }
            found
        }
    };
    if found.len() != rest.len() {
        return Err(Error::WrongResults { expected: rest.len(), found: found.len(), source_line: None });
    }
    let mut found = rest.into_iter().zip(found).collect::<HashMap<_, _>>();
    let results = (0..count).map(|place| match known.get(&place) {
        Some(tensor) => Ok(tensor.clone().into()),
        None => found.remove(&place).unwrap_or(Err(Error::NoPoints { source_line: None })),
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
    /// Reads what the file holds, and sees to it that the results will have room there.
    fn open<M: Traceable>(file: &Path, model: &M, graph: &Graph) -> Result<Self> {
        let fingerprint = model.fingerprint()?;
        let facts = model.scan(graph.clone())?;
        let sweep = identity(graph, fingerprint)?;
        let mut known = HashMap::new();
        if file.exists() {
            let other = |problem: String| Error::OtherSweep { path: file.display().to_string(), problem, source_line: None };
            if !file.is_file() {
                return Err(other("it is not a file".into()));
            }
            let mut held = candle_core::safetensors::load(file, &Device::Cpu).map_err(|error| other(crate::error::brief(&error)))?;
            let mark = held.remove(SWEEP).and_then(|mark| mark.to_vec1::<i64>().ok());
            if mark != Some(vec![sweep]) {
                return Err(other("its model, prompts, points or block are others".into()));
            }
            for (name, tensor) in held {
                let place = name.parse::<usize>().ok().filter(|&place| place < graph.saves.len());
                let place = place.ok_or_else(|| other(format!("there is no result `{name}`")))?;
                if !facts.get(place).is_some_and(|facts| is_result(&tensor, facts, fingerprint)) {
                    let (dtype, dims) = (tensor.dtype().as_str(), tensor.dims());
                    return Err(other(format!("its result `{name}` is of type `{dtype}` and shape {dims:?}")));
                }
                known.insert(place, tensor);
            }
        }
        let mut checkpoint = Checkpoint { file: file.to_path_buf(), sweep, known, written: Instant::now() };
        checkpoint.reserve(&facts)?;
        checkpoint.write()?;
        Ok(checkpoint)
    }

    /// Writes as many bytes as all results will have, so that a full disk is noticed before anything is computed.
    fn reserve(&self, facts: &[Facts]) -> Result<()> {
        let entries = |facts: &Facts| facts.sizes().map_or(1, |sizes| sizes.into_iter().fold(1, usize::saturating_mul));
        let missing = facts.iter().enumerate().filter(|(place, _)| !self.known.contains_key(place));
        let bytes = missing.map(|(_, facts)| entries(facts).saturating_mul(size_of::<f32>())).fold(0, usize::saturating_add);
        let beside = self.beside();
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            std::io::copy(&mut std::io::repeat(0).take(bytes as u64), &mut file)?;
            file.sync_all()
        };
        let written = write().map_err(|error| self.failed(&error));
        _ = std::fs::remove_file(&beside);
        written
    }

    /// Takes new results in; tells how writing them went, if it was time to.
    fn add(&mut self, new: impl Iterator<Item = (usize, Saved)>, is_last: bool) -> Option<Result<()>> {
        for (place, saved) in new {
            // A file has no place for rows of different lengths; that is said after the run.
            let (None, Ok(tensor)) = (saved.lengths(), saved.whole()) else { continue };
            match tensor.to_device(&Device::Cpu) {
                Ok(tensor) => _ = self.known.insert(place, tensor),
                Err(error) => return Some(Err(error.into())),
            }
        }
        (is_last || self.written.elapsed() >= PAUSE).then(|| self.write())
    }

    fn write(&mut self) -> Result<()> {
        let mut all = self.known.iter().map(|(place, tensor)| (place.to_string(), tensor.clone())).collect::<HashMap<_, _>>();
        all.insert(SWEEP.to_string(), Tensor::new(&[self.sweep], &Device::Cpu)?);
        // Written beside it and moved into its place, so that it is whole whenever the program ends.
        let beside = self.beside();
        self.written = Instant::now();
        candle_core::safetensors::save(&all, &beside).map_err(|error| self.failed(&crate::error::brief(&error)))?;
        std::fs::rename(&beside, &self.file).map_err(|error| self.failed(&error))
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".part");
        name.into()
    }

    fn failed(&self, problem: &dyn std::fmt::Display) -> Error {
        Error::SweepFile { path: self.file.display().to_string(), problem: problem.to_string(), source_line: None }
    }
}

/// Whether a tensor of a file can be the result with these facts.
fn is_result(tensor: &Tensor, facts: &Facts, model: Fingerprint) -> bool {
    let dtype = match facts.kind {
        // Some of what a model computes in 16 bits is kept in 32.
        KindTag::Float => tensor.dtype() == model.dtype || tensor.dtype() == DType::F32 && model.dtype.size_in_bytes() < 4,
        KindTag::Int | KindTag::Bool => kind_of(tensor.dtype()) == facts.kind,
    };
    let sizes =
        tensor.rank() == facts.axes.len() && facts.axes.iter().zip(tensor.dims()).all(|(axis, found)| axis.size.is_none_or(|size| size == *found));
    dtype && sizes
}

/// A number that is another one for another sweep, or on another model.
fn identity(graph: &Graph, model: Fingerprint) -> Result<i64> {
    let hash = fold(fold(START, &plain(graph)?), &model.hash.to_le_bytes());
    Ok(fold(hash, model.dtype.as_str().as_bytes()) as i64)
}

/// A graph as bytes, without its places in the program.
fn plain(graph: &Graph) -> Result<Vec<u8>> {
    let mut graph = graph.clone();
    graph.sources.iter_mut().for_each(|source| *source = Default::default());
    graph.invokes.iter_mut().for_each(|invoke| invoke.source = None);
    graph.to_msgpack()
}

impl Edits {
    /// The fingerprint of a model with these edits, from that of the model.
    ///
    /// # Errors
    /// If an edit applies a closure, which nothing is known of.
    pub fn fingerprint(&self, model: Fingerprint) -> Result<Fingerprint> {
        self.iter().try_fold(model, |model, edit| Ok(model.with(&plain(edit.graph())?)))
    }
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
