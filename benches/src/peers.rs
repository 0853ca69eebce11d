//! The same experiments in other libraries, each in a process of its own.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;

/// What a peer says of one experiment.
#[derive(Clone, Debug)]
pub struct Said {
    /// How long it took.
    pub ms: f64,
    /// What came out.
    pub values: Vec<f64>,
}

/// What the peers found.
#[derive(Debug, Default)]
pub struct Peers {
    /// nnsight, by the name of the experiment.
    pub nnsight: HashMap<String, Said>,
    /// candle-mi.
    pub candle_mi: HashMap<String, Said>,
}

impl Peers {
    /// Runs them. `installed` is where they are.
    ///
    /// # Errors
    /// Where one cannot be run.
    pub fn run(installed: &Path, weights: &Path, experiments: &Path) -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut python = Command::new(installed.join("venv/bin/python"));
        python.arg(here.join("figures.py")).arg(weights).arg(experiments);
        let mut rust = Command::new(installed.join("candle-mi/release/candle-mi-peer"));
        rust.arg(weights).arg(experiments);
        Ok(Peers { nnsight: listen(&mut python)?, candle_mi: listen(&mut rust)? })
    }
}

fn listen(command: &mut Command) -> Result<HashMap<String, Said>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed").into());
    }
    let lines = String::from_utf8(output.stdout)?;
    let lines = lines.lines().filter(|line| line.starts_with('{')).map(|line| {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let name = line["name"].as_str().ok_or("a figure without a name")?.to_string();
        let values = line["values"].as_array().ok_or("a figure without values")?.iter().filter_map(serde_json::Value::as_f64).collect();
        Ok((name, Said { ms: line["ms"].as_f64().ok_or("a figure without a time")?, values }))
    });
    lines.collect()
}
