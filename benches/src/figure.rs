//! What is measured, as a table and as JSON.

use std::time::Instant;

use crate::Result;

/// One comparison.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// What was done.
    pub name: String,
    /// How long it took here, in milliseconds where the name says nothing else.
    pub ours_ms: f64,
    /// What it is compared with.
    pub peer: &'static str,
    /// How long that took.
    pub peer_ms: Option<f64>,
    /// The peer's time over ours.
    pub ratio: Option<f64>,
    /// What it should be.
    pub bar: String,
    /// By how much the results differ.
    pub max_difference: Option<f64>,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peer = self.peer_ms.zip(self.ratio).map_or(String::new(), |(ms, ratio)| format!("{:<24} {ms:>10.2}   × {ratio:<8.3}", self.peer));
        let difference = self.max_difference.map_or(String::new(), |difference| format!("{difference:.1e}"));
        write!(f, "{:<58} {:>9.2}   {peer:<50} {difference:>8}   {}", self.name, self.ours_ms, self.bar)
    }
}

/// The figures and the machine as JSON.
pub fn json(figures: &[Figure], machine: &str) -> String {
    let figures = figures.iter().map(|figure| {
        serde_json::json!({
            "name": figure.name, "ours_ms": figure.ours_ms, "peer": figure.peer, "peer_ms": figure.peer_ms,
            "ratio": figure.ratio, "bar": figure.bar, "max_difference": figure.max_difference,
        })
    });
    format!("{:#}", serde_json::json!({ "figures": figures.collect::<Vec<_>>(), "machine": machine }))
}

/// How long something takes, in milliseconds.
///
/// # Errors
/// What it fails with.
pub fn time(run: &mut impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The median of some runs after one that is not counted.
///
/// # Errors
/// What a run fails with.
pub fn several(runs: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    Ok(median((0..runs).map(|_| time(&mut run)).collect::<Result<_>>()?))
}

/// The medians of both and of the ratio pair by pair, after a warm-up. Which of a pair runs first changes from one to the next, so that
/// neither a drift of the machine nor what the other leaves behind counts for either.
///
/// # Errors
/// What a run fails with.
pub fn pair(runs: usize, mut a: impl FnMut() -> Result<()>, mut b: impl FnMut() -> Result<()>) -> Result<[f64; 3]> {
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
            ratios.push(time_b / time_a);
        }
    }
    Ok([median(times_a), median(times_b), median(ratios)])
}

/// The middle one.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
