//! An error as the user reads it.

use std::fmt::{Debug, Display, Formatter};

use super::code::code;
use super::{Error, Source, at, first_line};

/// An error as the user reads it: the sentence, the line of code with a mark under what is meant, and what to write instead.
///
/// ```text
/// the edit of `layers.3.mlp.output` has no effect on anything that is saved: nothing that is saved is read after it
///   --> src/main.rs:12:37
///    |
/// 12 |         model.layers[3].mlp.output *= 0.0;
///    |                                    ^
///    = help: save something that comes after it, or write `effect(…) = …` if it is wanted all the same
/// ```
///
/// The code is read from its file where that is found; else only its place is shown. An error type prints it as its `Debug`, since that is what
/// `main` and `unwrap` print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    title: String,
    place: Option<Source>,
    help: Option<String>,
}

impl Report {
    /// From a sentence, the place in the program that it is about, and what to write instead.
    pub fn new(title: impl Into<String>, place: Option<&Source>, help: Option<String>) -> Self {
        Report { title: title.into(), place: place.cloned(), help }
    }

    /// Says where it happened, where that is not known yet.
    #[must_use]
    pub fn or_at(self, place: Option<&Source>) -> Self {
        Report { place: self.place.or_else(|| place.cloned()), ..self }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)?;
        let number = self.place.as_ref().map_or(String::new(), |place| place.line.to_string());
        let gutter = " ".repeat(number.len());
        if let Some(place) = &self.place {
            write!(f, "\n{gutter}--> {place}")?;
            if let Some(code) = code(place) {
                write!(f, "\n{gutter} |\n{number} | {}\n{gutter} | {}^", code.line, code.margin)?;
            }
        }
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The sentence alone, without the place in the program and without advice.
    pub fn sentence(&self) -> String {
        let (whole, place, then) = (self.to_string(), at(&self.source_line().cloned()).to_string(), self.then());
        let sentence = whole.strip_prefix(&place).unwrap_or(&whole);
        sentence.strip_suffix(&then).unwrap_or(sentence).to_string()
    }

    /// What to show to the user.
    pub fn report(&self) -> Report {
        let title = match self {
            Error::Model { problem, .. } => first_line(&problem.to_string()),
            _ => self.sentence(),
        };
        Report::new(title, self.source_line(), self.help())
    }
}

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.report(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_line_with_a_mark_where_the_file_can_be_read() {
        let error = Error::NoSteps { source_line: Some(std::panic::Location::caller().into()) };
        let line = error.source_line().unwrap().line.to_string();
        let gutter = " ".repeat(line.len());
        let code = "        let error = Error::NoSteps { source_line: Some(std::panic::Location::caller().into()) };";
        let expected = [
            "integrated gradients need at least one step".to_string(),
            format!("{gutter}--> {}", error.source_line().unwrap()),
            format!("{gutter} |"),
            format!("{line} | {code}"),
            format!("{gutter} | {}^", " ".repeat(code.find("std::panic").unwrap())),
            format!("{gutter} = help: 32 steps are usual"),
        ];
        assert_eq!(format!("{error:?}"), expected.join("\n"));
    }

    #[test]
    fn without_its_file_the_place_is_shown_and_without_a_place_the_sentence() {
        let place = Source { file: "no/such/file.rs".into(), line: 7, column: 3 };
        let error = Error::NameTaken { name: "a".into(), source_line: None };
        assert_eq!(format!("{error:?}"), "`a` is already the name of something\n = help: choose another name");
        assert_eq!(error.to_string(), "`a` is already the name of something; choose another name");
        let error = error.or_at(Some(place));
        assert_eq!(format!("{error:?}"), "`a` is already the name of something\n --> no/such/file.rs:7:3\n  = help: choose another name");
        assert_eq!(error.to_string(), "no/such/file.rs:7:3: `a` is already the name of something; choose another name");
    }
}
