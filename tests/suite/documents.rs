//! The tables of `docs` name tests: every one of them exists.

use std::path::Path;

use crate::shared::folder;

/// What stands between backticks and looks like `module::test` or `ui/program`.
fn names(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |name: &&str| {
        let plain =
            |part: &str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
        name.strip_prefix("ui/").map_or_else(|| name.split_once("::").is_some_and(|(module, test)| plain(module) && plain(test)), plain)
    };
    quoted.filter(is_name).collect()
}

fn exists(name: &str) -> bool {
    if let Some(program) = name.strip_prefix("ui/") {
        return folder(&format!("tests/ui/fail/{program}.rs")).exists();
    }
    let Some((module, test)) = name.split_once("::") else { return false };
    let files = [format!("tests/suite/{module}.rs"), format!("tests/{module}.rs")].map(|file| folder(&file));
    let text = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect::<String>();
    text.contains(&format!("fn {test}("))
}

#[test]
fn every_test_that_the_documents_name_exists() {
    for document in ["parity", "gotchas", "silent"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{document}.md"))).unwrap();
        let names = names(&text);
        assert!(names.len() > 10, "{document}.md names its tests");
        for name in names {
            assert!(exists(name), "docs/{document}.md names `{name}`, which is not there");
        }
    }
}
