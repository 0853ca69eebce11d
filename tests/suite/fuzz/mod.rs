//! Graphs from nowhere: whatever arrives as data is refused with a sentence, or gives planned what it gives as it is written.
//!
//! `tests/fuzz` runs a million. `NNSIGHT_FUZZ_GRAPHS` says how many, `NNSIGHT_FUZZ_SEED` where to begin, `NNSIGHT_FUZZ_REPLAY` which file of a
//! failure to run again.

mod bytes;
pub mod check;
mod grow;
mod mutate;
mod numbers;
mod perturb;
mod seeds;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use check::{Outcome, Subject};
use nnsight::prelude::*;
use numbers::Numbers;

/// How many graphs each mode tries, without `NNSIGHT_FUZZ_GRAPHS`.
const FEW: usize = 3_400;

fn count() -> usize {
    std::env::var("NNSIGHT_FUZZ_GRAPHS").ok().and_then(|count| count.parse::<usize>().ok()).map_or(FEW, |count| count.div_ceil(3))
}

fn seed() -> u64 {
    std::env::var("NNSIGHT_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0)
}

/// Where what fails is written to.
fn folder() -> PathBuf {
    std::env::var_os("NNSIGHT_FUZZ_FAILURES").map_or_else(|| std::env::temp_dir().join("nnsight-fuzz"), PathBuf::from)
}

/// Has a mode make so many graphs, and tries each.
fn run(mode: &'static str, make: impl Fn(&mut Numbers, &[Subject]) -> Option<(usize, Graph)> + Sync) {
    let (subjects, count, seed) = (check::subjects(), count(), seed());
    let (next, same, refused, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let mut numbers = Numbers::new(seed.wrapping_mul(1 << 32).wrapping_add(index as u64));
                    let Some((subject, graph)) = make(&mut numbers, subjects) else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    match subjects[subject].check(&graph) {
                        Ok(Outcome::Same) => same.fetch_add(1, Ordering::Relaxed),
                        Ok(Outcome::Refused) => refused.fetch_add(1, Ordering::Relaxed),
                        Err(fault) => {
                            let name = format!("{mode}-{seed}-{index}.{}.bin", subjects[subject].name);
                            write(&name, &graph);
                            println!("{name}: {fault}\n{graph}");
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
    });
    let (same, refused, failed) = (same.into_inner(), refused.into_inner(), failed.into_inner());
    println!("{mode}: {count} graphs in {:.1} s: {same} alike, {refused} refused, {failed} failed", start.elapsed().as_secs_f64());
    assert_eq!(failed, 0, "what failed is in {}", folder().display());
}

fn write(name: &str, graph: &Graph) {
    let folder = folder();
    if let Ok(bytes) = graph.to_msgpack() {
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), bytes)).expect("the folder of failures can be written");
    }
}

#[test]
fn graphs_that_grow_by_type_give_planned_what_they_give_as_written() {
    run("grown", grow::grow);
}

#[test]
fn changed_graphs_are_refused_or_give_planned_what_they_give_as_written() {
    run("mutated", mutate::mutate);
}

#[test]
fn changed_bytes_are_refused_or_give_planned_what_they_give_as_written() {
    run("bytes", bytes::change);
}

#[test]
fn what_users_write_gives_planned_what_it_gives_as_written() {
    let subjects = check::subjects();
    let written = seeds::seeds(subjects).iter().filter(|(_, seed)| seed.runs).collect::<Vec<_>>();
    assert_eq!(written.len(), 12);
    for (subject, seed) in written {
        assert_eq!(subjects[*subject].check(&seed.graph).unwrap(), Outcome::Same, "{}", seed.graph);
    }
}

#[test]
fn a_failure_can_be_run_again() {
    let Some(file) = std::env::var_os("NNSIGHT_FUZZ_REPLAY").map(PathBuf::from) else { return };
    let name = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.rsplit('.').next()).expect("the file's name says the model");
    let graph = Graph::from_msgpack(&std::fs::read(&file).expect("the file can be read")).expect("the file is a graph");
    let subject = check::subjects().iter().find(|subject| subject.name == name).expect("the model is one of those that are tried");
    println!("{graph}");
    subject.check(&graph).map(drop).unwrap();
}
