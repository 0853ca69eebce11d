//! What a user is told while a model is loaded.

use std::fmt;
use std::sync::Arc;

/// Is told of downloads, and of programs that are run for them.
#[derive(Clone)]
pub struct Notices(Arc<dyn Fn(&str) + Send + Sync>);

impl Notices {
    pub fn new(notice: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Notices(Arc::new(notice))
    }

    pub fn say(&self, line: &str) {
        (self.0)(line);
    }
}

impl Default for Notices {
    /// Prints to stderr.
    #[allow(clippy::print_stderr)]
    fn default() -> Self {
        Notices::new(|line| eprintln!("{line}"))
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
