//! What the whole workspace leaves to this crate: `unsafe`, and asking on which device a tensor is.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Rust files of a folder, and what they say outside of line comments.
fn sources(folder: &str) -> Vec<(PathBuf, Vec<String>)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<String>)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text.lines().map(str::to_string).collect()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether a line has a word.
fn has(line: &str, word: &str) -> bool {
    code(line).split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn no_other_crate_has_unsafe_code() {
    for (folder, root_file) in [("nnsight-core/src", "lib.rs"), ("nnsight-models/src", "lib.rs"), ("nnsight-macros/src", "lib.rs"), ("src", "lib.rs")]
    {
        let sources = sources(folder);
        for (path, lines) in &sources {
            for (number, line) in (1..).zip(lines) {
                assert!(!has(line, "unsafe"), "{}:{number}: move it into nnsight-kernels: {line}", path.display());
            }
        }
        let forbids = |lines: &[String]| lines.iter().any(|line| line == "#![forbid(unsafe_code)]");
        let root_file = root().join(folder).join(root_file);
        assert!(sources.iter().any(|(path, lines)| *path == root_file && forbids(lines)), "{folder} does not forbid unsafe code");
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut count = 0;
    for (path, lines) in sources("nnsight-kernels/src") {
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| has(line, "unsafe")) {
            let mut above = lines[..index].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            assert!(above.any(|line| line.contains("// SAFETY:")), "{}:{}: {line}", path.display(), index + 1);
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn no_model_and_no_layer_asks_for_a_device() {
    let questions = ["is_cpu", "is_cuda", "is_metal", "as_cuda_device", "as_metal_device"];
    for (path, lines) in sources("nnsight-models/src") {
        for (number, line) in (1..).zip(&lines) {
            let asks = questions.iter().any(|word| has(line, word)) || has(line, "matches") && has(line, "Device");
            assert!(!asks, "{}:{number}: leave it to a kernel: {line}", path.display());
        }
    }
}

#[test]
fn only_the_dispatch_asks_for_a_device() {
    for (path, lines) in sources("nnsight-kernels/src") {
        let asks = lines.iter().any(|line| has(line, "is_cpu") || has(line, "is_cuda"));
        assert_eq!(asks, path.ends_with("dispatch.rs"), "{}", path.display());
    }
}

#[test]
fn the_crate_knows_no_other_of_the_workspace() {
    let manifest = std::fs::read_to_string(root().join("nnsight-kernels/Cargo.toml")).unwrap();
    assert!(!["nnsight-core", "nnsight-models", "nnsight-macros"].iter().any(|name| manifest.contains(&format!("\n{name}"))));
}
