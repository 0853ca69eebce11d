//! What can go wrong when a model is loaded and used.

use std::path::PathBuf;

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A trace failed.
    #[error(transparent)]
    Trace(nnsight_core::Error),
    /// A file cannot be read or written.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        problem: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged or not a {format} file: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A config cannot be used.
    #[error("the model's config cannot be used: {0}")]
    Config(String),
    /// A checkpoint is not the one of the signature.
    #[error("the checkpoint is not a `{signature}`: its `{field}` is {found}, the signature says {expected}")]
    OtherCheckpoint {
        /// The signature.
        signature: &'static str,
        /// The size that differs.
        field: &'static str,
        /// The signature's.
        expected: usize,
        /// The checkpoint's.
        found: usize,
    },
    /// A checkpoint is of another architecture.
    #[error("the checkpoint is a `{found}`, and was to be loaded as a `{expected}`; what can be loaded is `llama` and `gpt2`")]
    OtherArchitecture {
        /// What was asked for.
        expected: &'static str,
        /// What there is.
        found: String,
    },
    /// A weight is missing.
    #[error("the checkpoint has no tensor `{name}`")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A weight has another shape than the config says.
    #[error("the tensor `{name}` has the shape {found:?}; by the config it is {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// By the config.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// Nothing is found under a name.
    #[error("there is no model `{name}`: {}", reasons.join("; "))]
    NotFound {
        /// The name.
        name: String,
        /// Where it was looked for, and what was wrong there.
        reasons: Vec<String>,
    },
    /// A download is not what it should be. Nothing of it is kept.
    #[error("{what} has the SHA-256 {found}, and should have {expected}; nothing of it was kept")]
    Checksum {
        /// What was downloaded.
        what: String,
        /// The right checksum.
        expected: &'static str,
        /// The one it has.
        found: String,
    },
    /// A model without weights is to be run.
    #[error("`{signature}` was made without weights: `scan!` finds out shapes, and `load` makes a model that can be run")]
    NoWeights {
        /// The signature.
        signature: &'static str,
    },
    /// A signature knows no sizes.
    #[error("`{signature}` knows no sizes; a model without weights needs the signature of a checkpoint")]
    NoSizes {
        /// The signature.
        signature: &'static str,
    },
    /// A tokenizer is missing or fails.
    #[error("the tokenizer: {0}")]
    Tokenizer(String),
    /// A text is not exactly one token.
    #[error("{text:?} is {count} tokens, and should be one; tokens often begin with a space")]
    NotOneToken {
        /// The text.
        text: String,
        /// The number of its tokens.
        count: usize,
    },
    /// Several texts are used as one.
    #[error("these are {count} texts, and one is meant: take it with `.at(Batch, row)`, or all of them with `decode_rows`")]
    SeveralTexts {
        /// How many there are.
        count: usize,
    },
    /// A number is not a token id.
    #[error("{id} is not a token id: ids are whole numbers from 0")]
    NoToken {
        /// The number.
        id: i64,
    },
    /// candle failed.
    #[error("loading the model failed: {0}")]
    Candle(#[from] candle_core::Error),
}

impl From<nnsight_core::Error> for Error {
    fn from(error: nnsight_core::Error) -> Self {
        Error::Trace(error)
    }
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says which file an error of the system is about.
pub(crate) fn at(path: &std::path::Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |problem| Error::File { path: path.to_path_buf(), problem }
}
