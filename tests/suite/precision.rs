//! Numbers of 16 bits are as exact as PyTorch's: the errors of every operation, module and gradient against `f32`, held against those that
//! `tests/reference/make_precision.py` measured.

mod data;
mod networks;
mod operations;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;
use serde_json::Value as Json;

use crate::shared::{folder, numbers};

/// RMS and largest error by value or gradient, by case.
type Errors = BTreeMap<String, BTreeMap<String, [f64; 2]>>;

/// How much larger an error may be than PyTorch's.
const FACTOR: f64 = 1.5;

/// The RMS and the largest of the differences, relative to those of what is expected.
fn error(found: &Candle, expected: &Candle) -> [f64; 2] {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    let rms = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let largest = |numbers: &mut dyn Iterator<Item = f64>| numbers.fold(0.0, |most, x| if x.abs() > most || x.is_nan() { x.abs() } else { most });
    let differences = || found.iter().zip(&expected).map(|(a, b)| a - b);
    let all = || expected.iter().copied();
    [rms(&mut differences()) / rms(&mut all()), largest(&mut differences()) / largest(&mut all())]
}

/// The distance between 1 and the next number.
fn ulp(dtype: DType) -> f64 {
    if dtype == DType::F16 { 2f64.powi(-10) } else { 2f64.powi(-7) }
}

fn reference() -> Json {
    serde_json::from_str(&std::fs::read_to_string(folder("tests/reference/precision.json")).unwrap()).unwrap()
}

/// What PyTorch has for a value; ours have more than one name where a gradient changes how they are computed.
fn theirs(reference: &Json, dtype: DType, case: &str, key: &str) -> [f64; 2] {
    let short = if dtype == DType::F16 { "f16" } else { "bf16" };
    let errors = &reference["errors"][short][case][key.trim_end_matches(" (no gradient)")];
    [0, 1].map(|at| errors[at].as_f64().unwrap_or_else(|| panic!("{short} {case} {key} has no reference")))
}

fn check(dtype: DType, errors: &Errors) {
    let reference = reference();
    let mut worse = Vec::new();
    for (case, found) in errors {
        for (key, ours) in found {
            let theirs = theirs(&reference, dtype, case, key);
            let bar = theirs.map(|theirs| (FACTOR * theirs).max(ulp(dtype)));
            // A NaN is no less than anything.
            if !(ours[0] <= bar[0] && ours[1] <= bar[1]) {
                worse.push(format!("{case}, {key}: {ours:?}, PyTorch {theirs:?}"));
            }
        }
    }
    assert!(worse.is_empty(), "{dtype:?}:\n{}", worse.join("\n"));
}

fn tiny(dtype: DType) -> Llama<Dynamic> {
    Llama::load(Source::from(folder("tests/reference/llama")).dtype(dtype)).unwrap()
}

#[test]
fn operations_in_bf16_are_as_exact_as_pytorch() {
    check(DType::BF16, &operations::errors(DType::BF16, tiny));
}

#[test]
fn operations_in_f16_are_as_exact_as_pytorch() {
    check(DType::F16, &operations::errors(DType::F16, tiny));
}

#[test]
fn modules_in_bf16_are_as_exact_as_pytorch() {
    check(DType::BF16, &networks::errors(DType::BF16));
}

#[test]
fn modules_in_f16_are_as_exact_as_pytorch() {
    check(DType::F16, &networks::errors(DType::F16));
}

/// Writes the table of `docs/precision.md` anew: `PRECISION=overwrite cargo test --release --test suite precision`.
#[test]
fn the_table_of_the_documentation_has_every_case() {
    let path = folder("docs/precision.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, table) = text.split_once("<!-- table -->\n").expect("the table follows its mark");
    if std::env::var_os("PRECISION").is_none_or(|value| value != "overwrite") {
        let reference = reference();
        for (case, keys) in reference["errors"]["bf16"].as_object().unwrap() {
            for key in keys.as_object().unwrap().keys() {
                assert!(table.contains(&format!("| {case} | {key} |")), "{case}, {key} is not in the table");
            }
        }
        return;
    }
    let reference = reference();
    let all = [DType::BF16, DType::F16].map(|dtype| {
        let mut errors = operations::errors(dtype, tiny);
        errors.extend(networks::errors(dtype));
        errors
    });
    let mut table = String::from("| what | of it | bf16 | PyTorch | f16 | PyTorch |\n|---|---|---|---|---|---|\n");
    for (case, keys) in &all[0] {
        for (key, ours) in keys {
            let pair = |[rms, largest]: [f64; 2]| format!("{rms:.1e} / {largest:.1e}");
            let (bf16, f16) = (theirs(&reference, DType::BF16, case, key), theirs(&reference, DType::F16, case, key));
            writeln!(table, "| {case} | {key} | {} | {} | {} | {} |", pair(*ours), pair(bf16), pair(all[1][case][key]), pair(f16)).unwrap();
        }
    }
    std::fs::write(&path, format!("{head}<!-- table -->\n{table}")).unwrap();
}
