//! The paths that a source file names, read from its tokens: comments and strings name none.

use std::collections::BTreeSet;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path that a file names.
pub struct Named {
    /// Its segments from the crate's root.
    pub absolute: Vec<String>,
    pub line: usize,
}

/// What one file names.
#[derive(Default)]
pub struct Reader {
    alias: Option<String>,
    pub paths: Vec<Named>,
    /// What `use` brings in, by its name in the crate.
    pub named: Vec<(Vec<String>, Vec<String>)>,
    /// Modules that exist in tests only.
    pub tests: BTreeSet<Vec<String>>,
    pub macros: Vec<String>,
}

impl Reader {
    pub fn read(text: &str, module: &[String], alias: Option<&str>) -> Reader {
        let tokens = TokenStream::from_str(text).unwrap();
        let mut reader = Reader { alias: alias.map(String::from), ..Reader::default() };
        reader.tokens(&tokens.into_iter().collect::<Vec<_>>(), module);
        reader
    }

    fn tokens(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            at += match (word(rest, 0).as_str(), word(rest, 1).as_str()) {
                ("#", "[cfg(test)]") => {
                    let end = rest.iter().position(|token| is_mark(token, ';') || group(token, Delimiter::Brace).is_some()).unwrap_or(rest.len() - 1);
                    if let Some(name) = rest[..end].iter().position(|token| token.to_string() == "mod") {
                        self.tests.insert([module, &[word(rest, name + 1)]].concat());
                    }
                    end + 1
                }
                ("mod", name) if let Some(body) = rest.get(2).and_then(|token| group(token, Delimiter::Brace)) => {
                    self.tokens(&body, &[module, &[name.to_string()]].concat());
                    3
                }
                ("macro_rules", "!") => {
                    self.macros.push(word(rest, 2));
                    2
                }
                ("use", _) if let Some(end) = rest.iter().position(|token| is_mark(token, ';')) => {
                    self.tree(&rest[1..end], &[], module);
                    end + 1
                }
                _ => {
                    let (path, count) = path(rest);
                    // A segment in the middle of a longer path begins none: `path` has taken it with the rest.
                    if count > 1 {
                        self.push(&path, line(&rest[0]), module);
                    } else if let TokenTree::Group(inner) = &rest[0] {
                        self.tokens(&inner.stream().into_iter().collect::<Vec<_>>(), module);
                    }
                    count.max(1)
                }
            };
        }
    }

    /// The leaves of what comes after `use`.
    fn tree(&mut self, tokens: &[TokenTree], before: &[String], module: &[String]) {
        let (segments, count) = path(tokens);
        let path = [before, &segments].concat();
        if let Some(inner) = tokens.get(count).and_then(|token| group(token, Delimiter::Brace)) {
            for branch in inner.split(|token| is_mark(token, ',')).filter(|branch| !branch.is_empty()) {
                self.tree(branch, &path, module);
            }
            return;
        }
        let end = path.iter().skip(1).position(|segment| segment == "self").map_or(path.len(), |end| end + 1);
        let path = &path[..end];
        let name = if word(tokens, count) == "as" { word(tokens, count + 1) } else { path[path.len() - 1].clone() };
        self.named.push(([module, &[name]].concat(), path.to_vec()));
        self.push(path, line(&tokens[0]), module);
    }

    /// Notes a path if it is one from the crate's root, or from the module that it is in.
    fn push(&mut self, path: &[String], line: usize, module: &[String]) {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        let (base, rest) = match path[0].as_str() {
            "crate" => (&module[..0], &path[1..]),
            "self" => (module, &path[1..]),
            "super" => (&module[..module.len() - ups], &path[ups..]),
            name if Some(name) == self.alias.as_deref() => (&module[..0], &path[1..]),
            _ => return,
        };
        let absolute = [base, rest].concat();
        if !absolute.is_empty() {
            self.paths.push(Named { absolute, line });
        }
    }
}

/// The segments of the path at the beginning, and how many tokens it has, with a `::` at its end.
fn path(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let separator = |at: usize| tokens.len() > at + 1 && is_mark(&tokens[at], ':') && is_mark(&tokens[at + 1], ':');
    let mut segments = Vec::new();
    let mut at = if separator(0) { 2 } else { 0 };
    while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
        segments.push(segment.to_string());
        at += 1;
        if !separator(at) {
            break;
        }
        at += 2;
    }
    (segments, at)
}

fn word(tokens: &[TokenTree], at: usize) -> String {
    tokens.get(at).map(|token| token.to_string().replace(' ', "")).unwrap_or_default()
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == mark)
}

fn group(token: &TokenTree, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        TokenTree::Group(group) if group.delimiter() == delimiter => Some(group.stream().into_iter().collect()),
        _ => None,
    }
}
