//! The core has no word of a language model: it knows modules, sites, graphs, rows and positions. What a prompt is, `nnsight-lm` knows.

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

/// Parts of names that only language models have.
const PARTS: [&str; 8] = ["prompt", "token", "vocab", "sampler", "kvcache", "kv_cache", "headdim", "logits"];

/// Names that only language models have.
const NAMES: [&str; 4] = ["Seq", "Hidden", "Chat", "eos"];

/// The unit of what a run costs has the name that users know: layers for positions.
const UNIT: &str = "token_layers";

#[test]
fn the_core_has_no_word_of_a_language_model() {
    let mut names = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("nnsight-core/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                Some(_) => collect(TokenStream::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap(), &mut names),
                None => folders.push(path),
            }
        }
    }
    assert!(names.contains("Rollout") && names.contains("AxisRole"), "the sources were read");
    let found = names.into_iter().filter(|name| !name.contains(UNIT) && is_of_language_models(name)).collect::<Vec<_>>();
    assert!(found.is_empty(), "{found:?}: names of language models are for `nnsight-lm`");
}

fn is_of_language_models(name: &str) -> bool {
    NAMES.contains(&name) || PARTS.iter().any(|part| name.to_lowercase().contains(part))
}

/// The names in some tokens, without those of tests. Comments and texts have none.
fn collect(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        let text = token.to_string().replace(' ', "");
        match token {
            TokenTree::Group(_) if text == "[cfg(test)]" => drop(tokens.by_ref().find(|next| matches!(next, TokenTree::Group(_)))),
            TokenTree::Group(group) => collect(group.stream(), names),
            TokenTree::Ident(name) => drop(names.insert(name.to_string())),
            _ => {}
        }
    }
}
