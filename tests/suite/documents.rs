//! The tables of `docs` name tests: every one of them exists. The programs of the documents are in the tests, word for word.

use std::path::{Path, PathBuf};

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

/// A fenced block of a document.
struct Fenced {
    /// What is written after its opening fence: `rust`, `sh`, or nothing.
    info: String,
    text: String,
}

fn fenced(document: &str) -> Vec<Fenced> {
    let (mut blocks, mut open) = (Vec::new(), None::<Fenced>);
    for line in document.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some(Fenced { info: info.trim().to_string(), text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// The lines of a program without their margins, so that a fragment is found inside of a function.
fn lines(program: &str) -> String {
    let lines = program.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.fold(String::from("\n"), |text, line| text + line + "\n")
}

/// Every document of the repository that a reader meets.
fn documents() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for place in ["", "docs"] {
        let files = std::fs::read_dir(folder(place)).unwrap().map(|entry| entry.unwrap().path());
        all.extend(files.filter(|file| file.extension().is_some_and(|extension| extension == "md")));
    }
    all.sort();
    all
}

#[test]
fn every_program_of_the_documents_is_compiled() {
    // The benchmarks have the allocator's.
    let compiled = ["tests/suite/readme.rs", "benches/src/main.rs", "nnsight-models/src/architectures/llama.rs"];
    let compiled = compiled.map(|file| lines(&std::fs::read_to_string(folder(file)).unwrap_or_default()));
    let documents = documents();
    assert!(documents.contains(&folder("README.md")) && documents.contains(&folder("docs/errors.md")));
    let mut programs = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let holds_messages = document.ends_with("docs/errors.md");
        for block in fenced(&text) {
            match block.info.as_str() {
                "rust" => programs += 1,
                // A drawing, or what a shell runs.
                "" | "sh" => continue,
                // What rustc prints.
                "text" if holds_messages => continue,
                other => panic!("{}: a block of `{other}` is compiled by no test", document.display()),
            }
            if !holds_messages {
                let program = lines(&block.text);
                assert!(compiled.iter().any(|tested| tested.contains(&program)), "{}: no test compiles\n{}", document.display(), block.text);
            }
        }
    }
    assert!(programs > 10, "{programs}");
}

#[test]
fn every_message_of_the_documents_is_the_compilers() {
    let text = std::fs::read_to_string(folder("docs/errors.md")).unwrap();
    let sections = text.split("\n## ").skip(1).collect::<Vec<_>>();
    assert!(sections.len() > 8, "{}", sections.len());
    for section in sections {
        let title = section.lines().next().unwrap_or_default();
        let name = names(section).into_iter().find(|name| name.starts_with("ui/")).unwrap_or_else(|| panic!("`{title}` names no test"));
        let file = |extension| std::fs::read_to_string(folder(&format!("tests/{}.{extension}", name.replace("ui/", "ui/fail/")))).unwrap();
        let (program, printed) = (lines(&file("rs")), file("stderr"));
        let blocks = fenced(section);
        let of = |info: &str| blocks.iter().filter(|block| block.info == info).collect::<Vec<_>>();
        let (programs, messages) = (of("rust"), of("text"));
        assert_eq!((programs.len(), messages.len()), (1, 1), "`{title}` has a program and what rustc prints first");
        assert!(program.contains(&lines(&programs[0].text)), "{name} is not the program of `{title}`");
        assert!(printed.contains(messages[0].text.trim_end()), "the message of `{title}` is not in {name}.stderr");
    }
}
