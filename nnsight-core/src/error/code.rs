//! The line of the program that an error is about, read from its file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::Source;

/// A source file is not longer than this.
const LARGEST: u64 = 1 << 22;
/// What is shown of a line.
const WIDEST: usize = 160;

/// A line of the program, and what to write below it so that the next character is under the code that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub line: String,
    pub margin: String,
}

/// The code at a place. Only a place in this program is looked up, not one that came with a graph from elsewhere, which could name any file.
pub(super) fn code(place: &Source) -> Option<Code> {
    let Cow::Borrowed(file) = place.file else { return None };
    candidates(Path::new(file)).iter().find_map(|path| excerpt(&line(path, place.line)?, place.column))
}

/// Where a file may be: rustc names it as seen from the workspace, in which there are the package, the program and, mostly, the user.
fn candidates(file: &Path) -> Vec<PathBuf> {
    if file.is_absolute() {
        return vec![file.to_path_buf()];
    }
    let starts = [std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from), std::env::current_exe().ok(), std::env::current_dir().ok()];
    starts.iter().flatten().flat_map(|start| start.ancestors()).map(|folder| folder.join(file)).collect()
}

/// A line of a regular file, from 1.
fn line(path: &Path, number: u32) -> Option<String> {
    // What is not a regular file could block when it is opened.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let lines = BufReader::new(File::open(path).ok()?.take(LARGEST)).lines();
    lines.map_while(Result::ok).nth(usize::try_from(number.checked_sub(1)?).ok()?)
}

/// What is shown of a line, of which the column (from 1) is meant, or `None` where the line has no such column: the file is another one now.
fn excerpt(line: &str, column: u32) -> Option<Code> {
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let characters = line.trim_end().chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect::<Vec<_>>();
    if column >= characters.len() {
        return None;
    }
    let start = column.saturating_sub(WIDEST / 2).min(characters.len().saturating_sub(WIDEST));
    let end = (start + WIDEST).min(characters.len());
    let (before, after) = (if start > 0 { "… " } else { "" }, if end < characters.len() { " …" } else { "" });
    let shown = characters[start..end].iter().collect::<String>();
    // A tab stays one, so that both lines are as wide; a wide character takes two places.
    let blank = |c: &char| if *c == '\t' { "\t" } else { ["", " ", "  "][width(*c)] };
    let margin = before.chars().map(|_| " ").chain(characters[start..column].iter().map(blank)).collect();
    Some(Code { line: format!("{before}{shown}{after}"), margin })
}

/// How many places of a line a character takes.
fn width(c: char) -> usize {
    use unicode_width::UnicodeWidthChar as _;
    c.width().unwrap_or(1).min(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, column: u32) -> Option<(String, String)> {
        excerpt(line, column).map(|code| (code.line, code.margin))
    }

    #[test]
    fn the_margin_is_as_wide_as_what_stands_before_the_column() {
        assert_eq!(shown("    a += b;  ", 7), Some(("    a += b;".to_string(), "      ".to_string())));
        assert_eq!(shown("\t\ta += b", 3), Some(("\t\ta += b".to_string(), "\t\t".to_string())));
        assert_eq!(shown("\"東京\" + é + x", 12), Some(("\"東京\" + é + x".to_string(), " ".repeat(13))));
        assert_eq!(shown("a\u{1b}[31m", 1), Some(("a [31m".to_string(), String::new())));
        // A file that has changed since.
        assert_eq!(shown("short", 6), None);
        assert_eq!(shown("short", 0), None);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_column_is_shown() {
        let line = format!("{}HERE{}", "a".repeat(1000), "b".repeat(1000));
        let (text, margin) = shown(&line, 1001).unwrap();
        assert!(text.starts_with("… a") && text.ends_with("b …"), "{text}");
        assert_eq!(text.chars().count(), WIDEST + 4);
        assert_eq!(text.chars().skip(margin.len()).take(4).collect::<String>(), "HERE");
    }

    #[test]
    fn only_lines_of_regular_files_and_of_this_program_are_read() {
        let here = Source::from(std::panic::Location::caller());
        assert!(code(&here).unwrap().line.contains("let here = Source::from"));
        // The same place from a stored graph, a folder, a device, a line after the last.
        assert_eq!(code(&Source { file: Cow::Owned(here.file.to_string()), ..here.clone() }), None);
        assert_eq!(code(&Source { file: Cow::Borrowed("/"), line: 1, column: 1 }), None);
        assert_eq!(code(&Source { file: Cow::Borrowed("/dev/zero"), line: 1, column: 1 }), None);
        assert_eq!(code(&Source { line: u32::MAX, ..here.clone() }), None);
        assert_eq!(code(&Source { line: 0, ..here }), None);
    }
}
