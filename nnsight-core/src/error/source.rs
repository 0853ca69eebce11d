//! A place in the user's program, as a node and an error name it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A place in the user's program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The file.
    pub file: Cow<'static, str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl From<&'static std::panic::Location<'static>> for Source {
    fn from(location: &'static std::panic::Location<'static>) -> Self {
        Source { file: Cow::Borrowed(location.file()), line: location.line(), column: location.column() }
    }
}
