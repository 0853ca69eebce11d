//! Times of the experiments of interpretability research, of forward passes, of tracing and of loading. See `benches/run`.

use std::path::{Path, PathBuf};
use std::process::Command;

use nnsight::prelude::*;
use nnsight_benches::experiments::{self, Experiments};
use nnsight_benches::figure::json;
use nnsight_benches::growth::growth;
use nnsight_benches::peers::Peers;
use nnsight_benches::{Model, Result, passes};

/// What glibc's allocator gives back to the system and asks for again costs more than tracing does (docs/performance.md); with this one the
/// figures are those of the computation. It serves both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let arguments = std::env::args().collect::<Vec<_>>();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--start-up", folder] => return passes::start_up(Path::new(folder)),
        [_, "--script", folder] => return experiments::script(Path::new(folder)),
        [_, "--convert", folder] => return Ok(Model::convert(Source::default(), Path::new(folder))?),
        _ => {}
    }
    let option = |name: &str| match arguments.iter().position(|argument| argument == name) {
        None => Ok(None),
        Some(at) => arguments.get(at + 1).map(PathBuf::from).map(Some).ok_or(format!("{name} needs a path")),
    };
    let (installed, file, plot) = (option("--peers")?, option("--json")?, option("--growth")?);
    let temporary = tempfile::tempdir()?;
    let folder = temporary.path();
    // In a process of its own: what it frees would decide where the weights come to lie, and so how fast they are read.
    Command::new(std::env::current_exe()?).arg("--convert").arg(folder).status()?;
    let model = Model::load(folder)?;
    if let Some(plot) = plot {
        return growth(&model, &plot);
    }
    let experiments = Experiments::new(&model)?;
    let peers = match &installed {
        None => Peers::default(),
        Some(installed) => {
            let shared = folder.join("experiments.json");
            experiments.write(&shared)?;
            Peers::run(installed, folder, &shared)?
        }
    };
    println!("{:<58} {:>9}   {:<24} {:>10}   {:<10} {:>8}   bar", "", "ours, ms", "peer", "peer's, ms", "× faster", "differ by");
    let mut figures = experiments.figures(&model, folder, &peers)?;
    let others = passes::all(&model, folder)?;
    drop(model);
    let others = others.into_iter().chain(passes::process(folder)?);
    figures.extend(others.inspect(|figure| println!("{figure}")));
    if let Some(file) = file {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::fs::write(file, json(&figures, &format!("{cores} cores, {}", std::env::consts::ARCH)))?;
    }
    Ok(())
}
