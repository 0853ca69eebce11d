//! Data flows one way: no circle among the folders of a crate.
//!
//! What each folder uses is written down here, once, and is exact: a folder that begins to use another one, or stops, is an edit of its list. A file
//! beside `lib.rs` is a folder of its own name; `lib.rs` may name everything. Comments, documentation and tests do not count.
//!
//! Seen are paths, in macros too. A method is not seen by its call: one that a folder adds to a type of another is for the folders above.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use paths::Reader;

/// The folders of a crate from the bottom up, each with those that it uses, which stand before it.
type Folders = &'static [(&'static str, &'static [&'static str])];

const CORE: Folders = &[
    ("error", &[]),
    ("graph", &["error"]),
    ("types", &["error", "graph"]),
    ("observer", &["error", "graph", "types"]),
    ("sites", &["error", "graph"]),
    ("batch", &["graph"]),
    ("plan", &["error", "graph", "sites", "batch"]),
    ("trace", &["error", "graph", "types", "observer", "sites"]),
    ("module", &["error", "graph", "types", "observer", "sites", "batch", "trace"]),
    ("run", &["error", "graph", "types", "observer", "sites", "batch", "plan", "module"]),
    ("outside", &["error", "graph", "types", "run"]),
];
const KERNELS: Folders = &[
    ("cpu", &[]),
    ("dispatch", &[]),
    ("extent", &[]),
    ("half_precision", &["dispatch"]),
    ("operator", &[]),
    ("owned", &[]),
    ("pool", &[]),
    ("sum", &[]),
    ("reference", &["extent", "operator"]),
    ("softmax", &["dispatch", "half_precision", "reference"]),
    ("activation", &["half_precision"]),
    ("attention", &["cpu", "dispatch", "half_precision", "reference", "softmax"]),
    ("elementwise", &["cpu", "dispatch", "operator"]),
    ("matrix", &["cpu", "dispatch"]),
    ("matmul", &["dispatch", "reference"]),
    ("linear", &["cpu", "half_precision", "owned", "matrix", "matmul"]),
    ("norm", &["cpu", "dispatch", "half_precision", "reference"]),
    ("pairwise", &["cpu", "dispatch", "half_precision", "owned", "reference"]),
    ("patch", &["cpu", "dispatch", "extent", "half_precision", "owned", "reference"]),
    ("rotary", &["cpu", "dispatch", "half_precision", "reference"]),
];
const LM: Folders = &[
    ("chat", &[]),
    ("dims", &[]),
    ("problem", &[]),
    ("sizes", &[]),
    ("token", &[]),
    ("token_batch", &[]),
    ("generation", &["dims"]),
    ("heads", &["dims"]),
    ("prompt", &["chat", "dims"]),
    ("prompt_kind", &[]),
    ("kv_cache", &["token_batch"]),
    ("sampler", &["generation"]),
    ("language", &["dims", "generation", "prompt", "prompt_kind", "token"]),
    ("encoder", &["prompt", "prompt_kind"]),
    ("vocabulary", &[]),
    ("text", &["vocabulary"]),
    ("continuation", &["generation", "sampler", "text", "token_batch", "vocabulary"]),
    ("token_inputs", &["continuation", "generation", "problem", "prompt", "token_batch", "vocabulary"]),
];
const MACROS: Folders = &[("errors", &[]), ("save", &[]), ("signature", &[]), ("module", &["errors"]), ("trace", &["errors"])];
const MODELS: Folders = &[
    ("known", &[]),
    ("error", &["known"]),
    ("token_ids", &["error"]),
    ("tokenizer", &["error", "token_ids"]),
    ("prompts", &["tokenizer"]),
    ("tree", &[]),
    ("config", &["error"]),
    ("loading", &["error", "tokenizer", "config"]),
    ("layers", &["error", "config", "loading"]),
    ("causal", &[]),
    ("decoder", &[]),
    ("transformer", &["decoder"]),
    ("network", &["error", "config", "loading", "transformer"]),
    ("loaded", &["error", "tokenizer", "prompts", "tree", "config", "loading", "network"]),
    ("transformer_lens", &["causal", "loaded"]),
    ("language_model", &["error", "causal", "config", "loading", "network", "loaded", "transformer_lens"]),
    ("meta", &["error", "tokenizer", "prompts", "tree", "network", "loaded", "language_model"]),
    ("architectures", &["error", "layers", "config", "decoder", "transformer", "loading", "network", "language_model"]),
    ("hooked", &["causal"]),
    ("attribution", &["network", "language_model", "causal"]),
    ("signatures", &["architectures"]),
    ("report", &["error", "known"]),
];

#[test]
fn the_folders_of_the_core_use_each_other_one_way() {
    check("nnsight-core", CORE);
}

#[test]
fn the_folders_of_the_kernels_use_each_other_one_way() {
    check("nnsight-kernels", KERNELS);
}

#[test]
fn the_folders_of_the_language_models_use_each_other_one_way() {
    check("nnsight-lm", LM);
}

#[test]
fn the_folders_of_the_macros_use_each_other_one_way() {
    check("nnsight-macros", MACROS);
}

#[test]
fn the_folders_of_the_models_use_each_other_one_way() {
    check("nnsight-models", MODELS);
}

#[test]
fn a_path_is_a_dependency_wherever_code_has_it() {
    let text = r#"
        //! Not [`crate::comment::A`].
        use crate::{one::A, two::{self, B as C}};
        use super::super::three::*;
        #[doc = "crate::text::A"]
        fn f(a: crate::four::A) -> crate::Result<()> { vec![super::own::x(), crate::five::y::<crate::six::Z>("crate::text::B")]; crate::made!() }
        macro_rules! m { () => { $crate::__private::Seven } }
        #[cfg(test)]
        mod tests { use crate::test::A; }
        mod inner { use super::super::super::eight::A; }
        #[cfg(test)]
        use crate::test::B;
        pub(crate) use nnsight::nine::A;
    "#;
    let folders = ["error", "here", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let root = Root {
        folders: folders.map(String::from).into(),
        names: [(vec!["Result"], vec!["error", "Result"]), (vec!["made"], vec!["here"]), (vec!["__private", "Seven"], vec!["seven", "Seven"])]
            .map(|(name, of)| (strings(&name), Some(strings(&of))))
            .into(),
        alias: Some("nnsight".into()),
    };
    let found = Reader::read(text, &strings(&["here", "file"]), Some("nnsight"));
    let used: BTreeSet<_> = found.paths.iter().map(|path| root.folder(&path.absolute).unwrap().unwrap()).collect();
    assert_eq!(used, folders.map(String::from).into());
    let four = found.paths.iter().find(|path| path.absolute[0] == "four").unwrap();
    assert_eq!((four.line, four.absolute.join("::")), (6, "four::A".into()));
}

#[test]
fn folders_that_use_each_other_are_told_with_the_line() {
    let found = [("trace", "run", "trace/edit.rs:11 (run::Watch)"), ("run", "error", "run/batch.rs:1 (error::Error)")];
    let found = || found.map(|(from, to, at)| ((from.to_string(), to.to_string()), at.to_string())).into();
    let told = |folders| complaints("core", folders, &["error", "run", "trace"].map(String::from).into(), &found());
    assert_eq!(told(&[("error", &[]), ("run", &["error"]), ("trace", &["run"])]), [""; 0]);
    assert_eq!(
        told(&[("error", &[]), ("trace", &[]), ("run", &["error", "trace"])]),
        [
            "core: `trace` uses `run`, which is built on it: trace/edit.rs:11 (run::Watch). Move what it needs into `trace`, or into a folder below both.",
            "core: `run` no longer uses `trace`. Take it from its list.",
        ]
    );
    assert_eq!(
        told(&[("error", &[]), ("run", &[]), ("trace", &["run"])]),
        ["core: `run` uses `error`: run/batch.rs:1 (error::Error). Add `error` to the list of `run`, or do without."]
    );
    assert_eq!(
        told(&[("trace", &["run"]), ("run", &["error"]), ("plan", &[])]),
        [
            "core: `trace` lists `run`, which is not before it. List folders from the bottom up, so that there is no circle.",
            "core: `run` lists `error`, which is not before it. List folders from the bottom up, so that there is no circle.",
            "core: the folder `error` is not listed.",
            "core: there is no folder `plan`. Take it from the list.",
        ]
    );
}

/// Fails with a sentence for everything that a crate's list and its code do not agree on.
fn check(name: &str, folders: Folders) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("src");
    let (exist, found) = dependencies(&source);
    let complaints = complaints(name, folders, &exist, &found);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Which folder uses which, with one place of each.
type Found = BTreeMap<(String, String), String>;

fn complaints(name: &str, folders: Folders, exist: &BTreeSet<String>, found: &Found) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, (folder, uses)) in folders.iter().enumerate() {
        for used in uses.iter().filter(|used| folders[..index].iter().all(|(before, _)| before != *used)) {
            complaints.push(format!(
                "{name}: `{folder}` lists `{used}`, which is not before it. List folders from the bottom up, so that there is no circle."
            ));
        }
    }
    let listed = |from: &str, to: &str| folders.iter().any(|(folder, uses)| *folder == from && uses.contains(&to));
    let height = |wanted: &str| folders.iter().position(|(folder, _)| *folder == wanted);
    for ((from, to), place) in found.iter().filter(|((from, to), _)| !listed(from, to)) {
        complaints.push(match (height(from), height(to)) {
            (Some(from_height), Some(to_height)) if from_height < to_height => {
                format!("{name}: `{from}` uses `{to}`, which is built on it: {place}. Move what it needs into `{from}`, or into a folder below both.")
            }
            _ => format!("{name}: `{from}` uses `{to}`: {place}. Add `{to}` to the list of `{from}`, or do without."),
        });
    }
    for (folder, uses) in folders.iter().filter(|(folder, _)| exist.contains(*folder)) {
        for used in uses.iter().filter(|used| !found.contains_key(&(folder.to_string(), used.to_string()))) {
            complaints.push(format!("{name}: `{folder}` no longer uses `{used}`. Take it from its list."));
        }
    }
    let unlisted = exist.iter().filter(|folder| folders.iter().all(|(listed, _)| listed != folder));
    complaints.extend(unlisted.map(|folder| format!("{name}: the folder `{folder}` is not listed.")));
    let missing = folders.iter().filter(|(folder, _)| !exist.contains(*folder));
    complaints.extend(missing.map(|(folder, _)| format!("{name}: there is no folder `{folder}`. Take it from the list.")));
    complaints
}

/// The folders of a crate, and which uses which.
fn dependencies(source: &Path) -> (BTreeSet<String>, Found) {
    let mut files = Vec::new();
    walk(source, &mut files);
    let lib = std::fs::read_to_string(source.join("lib.rs")).unwrap();
    let alias = lib.lines().find_map(|line| line.strip_prefix("extern crate self as ")?.strip_suffix(';'));
    let read: Vec<_> = files
        .iter()
        .map(|path| {
            let module = module(path.strip_prefix(source).unwrap());
            let found = Reader::read(&std::fs::read_to_string(path).unwrap(), &module, alias);
            (path, module, found)
        })
        .collect();

    let tests: BTreeSet<_> = read.iter().flat_map(|(.., found)| &found.tests).cloned().collect();
    let read: Vec<_> = read.into_iter().filter(|(_, module, _)| !(0..=module.len()).any(|count| tests.contains(&module[..count]))).collect();
    let mut root = Root {
        folders: read.iter().filter_map(|(_, module, _)| module.first().cloned()).collect(),
        names: BTreeMap::new(),
        alias: alias.map(String::from),
    };
    for (_, module, found) in &read {
        root.names.extend(found.macros.iter().map(|name| (vec![name.clone()], Some(module.clone()))));
        if module.is_empty() {
            let passed_on: Vec<_> = found.named.iter().map(|(name, of)| (name.clone(), root.own(of))).collect();
            root.names.extend(passed_on);
        }
    }

    let mut uses = Found::new();
    for (path, module, found) in read.iter().filter(|(_, module, _)| !module.is_empty()) {
        for path_used in &found.paths {
            let used = root.folder(&path_used.absolute).unwrap_or_else(|name| panic!("{}:{}: what is {name}?", path.display(), path_used.line));
            let Some(used) = used.filter(|used| *used != module[0]) else { continue };
            let place = format!("{}:{} ({})", path.strip_prefix(source).unwrap().display(), path_used.line, path_used.absolute.join("::"));
            uses.entry((module[0].clone(), used)).or_insert(place);
        }
    }
    (root.folders, uses)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module that a file is, as segments from the crate's root.
fn module(file: &Path) -> Vec<String> {
    let mut module: Vec<_> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_string()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

fn strings(segments: &[&str]) -> Vec<String> {
    segments.iter().map(|segment| segment.to_string()).collect()
}

/// What a crate's root has: its folders, and the names that `lib.rs` passes on, of the crate itself or (`None`) of another one.
struct Root {
    folders: BTreeSet<String>,
    names: BTreeMap<Vec<String>, Option<Vec<String>>>,
    alias: Option<String>,
}

impl Root {
    /// A path of a `use` in `lib.rs` from the root, if it is in this crate.
    fn own(&self, path: &[String]) -> Option<Vec<String>> {
        let is_root = path[0] == "crate" || Some(&path[0]) == self.alias.as_ref();
        let path = &path[usize::from(is_root)..];
        (is_root || self.folders.contains(&path[0])).then(|| path.to_vec())
    }

    /// The folder of a path from the root, or `None` if another crate has it.
    fn folder(&self, path: &[String]) -> Result<Option<String>, String> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            if self.folders.contains(&path[0]) {
                return Ok(Some(path[0].clone()));
            }
            match (1..=path.len()).find_map(|count| self.names.get(&path[..count])) {
                Some(Some(of)) => path = of.clone(),
                Some(None) => return Ok(None),
                None => break,
            }
        }
        Err(path.join("::"))
    }
}
