//! What can go wrong when a model is loaded and used.

use std::path::PathBuf;

use nnsight_core::first_line;
use nnsight_core::graph::Source as Line;

use crate::known;

/// What went wrong, and what to do about it.
///
/// Printed with `{:?}`, as `main` prints what it returns, it is a [`Report`](nnsight_core::Report).
#[derive(thiserror::Error)]
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
    #[error("{} is damaged or not a {format} file: {}", path.display(), first_line(.problem))]
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
    #[error("expected a `{expected}` checkpoint, found `{found}`; what can be loaded is {}", known::listed())]
    OtherArchitecture {
        /// What was asked for.
        expected: &'static str,
        /// What there is.
        found: String,
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
    #[error("these are {count} texts, and one is meant; take it with `.at(Batch, row)`, or all of them with `decode_rows`")]
    SeveralTexts {
        /// How many there are.
        count: usize,
    },
    /// A number is not a token id.
    #[error("{id} is not a token id; ids are whole numbers from 0")]
    NoToken {
        /// The number.
        id: i64,
    },
    /// candle failed.
    #[error("loading the model failed: {}", nnsight_core::brief(.0))]
    Candle(candle_core::Error),
    /// Weights are missing.
    #[error("the checkpoint has no tensor {}", listed(names))]
    MissingTensors {
        /// Their names.
        names: Vec<String>,
    },
    /// Weights are in the files that the model does not use.
    #[error(
        "the checkpoint has {} that the model does not use, and so it would compute something else than the checkpoint is meant to; if they do \
         not matter, name them in `Source::ignoring`",
        listed_as("tensor", names)
    )]
    UnusedTensors {
        /// Their names.
        names: Vec<String>,
    },
    /// A config has keys that nobody has looked at.
    #[error(
        "the model's config has {} that this `{architecture}` does not know, and which may change what it computes; if they do not, name them in \
         `Source::ignoring`",
        listed_as("key", keys)
    )]
    UnknownKeys {
        /// The architecture.
        architecture: &'static str,
        /// The keys.
        keys: Vec<String>,
    },
    /// The head is said to be the token embedding, and the files hold another one.
    #[error(
        "by the config the head is tied to the token embedding, but `{head}` in the file differs from it; set `tie_word_embeddings` to `false`, or \
         name `{head}` in `Source::ignoring`"
    )]
    OtherHead {
        /// The name of the head.
        head: String,
    },
    /// A weight is infinite or not a number.
    #[error(
        "the tensor `{name}` has {count} entries that are not finite, the first {value} at {entry}: a run would give NaN; if that is meant, load it \
         with `Source::allow_non_finite`"
    )]
    NotFinite {
        /// The name of the tensor.
        name: String,
        /// The number of the first such entry, or of its block in a quantised tensor.
        entry: usize,
        /// What it is.
        value: f64,
        /// How many there are.
        count: usize,
    },
    /// A type in which no model computes.
    #[error("a model does not compute in {found:?}; write `.dtype(DType::F32)`, or `BF16`, `F16` or `F64`")]
    UnknownType {
        /// What was asked for.
        found: candle_core::DType,
    },
    /// Weights are to be held in fewer bits in a model that does not compute in `f32` on the CPU.
    #[error("weights in {format:?} are for a model in `f32` on the CPU, and {found} was asked for; leave out one of them")]
    FormatUnfit {
        /// The format of the weights.
        format: nnsight_kernels::WeightFormat,
        /// What does not go with it.
        found: String,
    },
    /// Weights are quantised in a way that cannot be read.
    #[error(
        "{}: the tensor `{tensor}` is quantised as {found}, which cannot be read; use a file in Q4_0 to Q8_0, Q2_K to Q6_K, F16, BF16 or F32",
        path.display()
    )]
    Quantization {
        /// The file.
        path: PathBuf,
        /// The name of the tensor.
        tensor: String,
        /// The quantisation.
        found: String,
    },
    /// A GGUF file is one part of several.
    #[error(
        "{}: this is part {part} of a model that is split into {count} files; join them with `llama-gguf-split --merge`, and load the result",
        path.display()
    )]
    Split {
        /// The file.
        path: PathBuf,
        /// Which part it is, from 1 on.
        part: u64,
        /// How many there are.
        count: u64,
    },
    /// A folder has weights only in a form that is not read.
    #[error("{}: the folder has no `model.safetensors`, only `{found}`{}", path.display(), remedy(found))]
    OtherWeights {
        /// The folder.
        path: PathBuf,
        /// What it has.
        found: String,
    },
    /// Something that is to be read is not a file.
    #[error("{}: this is not a regular file but {found}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A file is longer than files of its kind are.
    #[error("{}: the file is longer than {limit} bytes, which no file of this kind is", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How many bytes are read at most.
        limit: u64,
    },
    /// A file changed since it was downloaded or loaded.
    #[error("{}: the bytes of this file are not those that were {what}; {remedy}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was done with the bytes.
        what: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A download failed.
    #[error("{url}: {problem}")]
    Download {
        /// What was to be downloaded.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// A text is to be split into tokens or put together from them, and there is no tokenizer that can.
    #[error(transparent)]
    NoTokenizer(#[from] NoTokenizer),
    /// A conversation is a prompt, and the checkpoint does not say how it is written.
    #[error("the checkpoint has no chat template{}; write the prompt as text", NamedTemplates(names))]
    NoChatTemplate {
        /// The templates that it has for other purposes.
        names: Vec<String>,
    },
    /// A chat template refuses a conversation, or is wrong.
    #[error("the checkpoint's chat template cannot write the conversation: {problem}")]
    ChatTemplate {
        /// What the template or its language says.
        problem: String,
    },
    /// A model or a tokenizer cannot be loaded, converted or made without weights. Every error of these but [`Error::Trace`] is in one of this kind,
    /// which says where the program asked for it: `{}` prints `src/main.rs:4:17: ` and the problem's own sentence, and `{:?}`, as `main` prints it, the
    /// sentence, the line of code with a mark, and what to do. Match on `problem` for the kind of the problem.
    #[error("{source_line}: {problem}")]
    Loading {
        /// What is wrong.
        problem: Box<Error>,
        /// The line of the program that loads it.
        source_line: Line,
    },
    /// An architecture has no table of names for GGUF files.
    #[error("a `{architecture}` is not read from GGUF files; load a folder with its `config.json` and `model.safetensors`")]
    NoGguf {
        /// The architecture.
        architecture: &'static str,
    },
    /// A module has an axis whose size no config says.
    #[error("the axis `{axis}` has no size in a config; declare it with one, `dim!(pub {axis} = …)`, or read its size from the config yourself")]
    NoSuchSize {
        /// Its name.
        axis: &'static str,
    },
    /// Logits are asked of an encoder.
    #[error("`{signature}` is an encoder, which has no logits; read its hidden states, `trace!(model, prompts, {{ model.layers[-1].output }})`")]
    NoLogits {
        /// The model's signature.
        signature: String,
    },
}

struct NamedTemplates<'a>(&'a [String]);

impl std::fmt::Display for NamedTemplates<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(f, " named `default`, only `{}`", names.join("`, `")),
        }
    }
}

/// Why a checkpoint has no tokenizer that can be used. The model still runs on token ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoTokenizer {
    /// It has none at all.
    #[error("the checkpoint has no tokenizer; give token ids instead of text")]
    Missing,
    /// A GGUF file's tokenizer is of a kind that is not known.
    #[error(
        "the GGUF file's tokenizer is of the kind `{name}`, and only `gpt2` and `llama` are known; give token ids instead of text, or load a folder with a `tokenizer.json`"
    )]
    Model {
        /// `tokenizer.ggml.model`.
        name: String,
    },
    /// How a GGUF file's tokenizer splits text is not known.
    #[error(
        "the GGUF file's tokenizer splits text by the pre-tokenizer `{name}`, which is not known; give token ids instead of text, or load a folder with a `tokenizer.json`"
    )]
    PreTokenizer {
        /// `tokenizer.ggml.pre`.
        name: String,
    },
    /// A GGUF file's tokenizer contradicts itself.
    #[error("the GGUF file's tokenizer is damaged: {problem}; give token ids instead of text")]
    Damaged {
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// The line of the program that it is about, if that is known.
    pub fn source_line(&self) -> Option<&Line> {
        match self {
            Error::Trace(error) => error.source_line(),
            Error::Loading { source_line, .. } => Some(source_line),
            _ => None,
        }
    }

    /// Says which line of the program loads the model.
    pub(crate) fn of_loading_at(self, place: &'static std::panic::Location<'static>) -> Self {
        match self {
            Error::Trace(error) => Error::Trace(error.or_at(Some(place.into()))),
            known @ Error::Loading { .. } => known,
            problem => Error::Loading { problem: Box::new(problem), source_line: place.into() },
        }
    }

    /// A key of a config asks for something that cannot be run.
    pub(crate) fn refused(key: &str, found: impl std::fmt::Display, known: &str) -> Self {
        Error::Config(format!("`{key}` is `{found}`; what can be run is {known}"))
    }
}

/// candle's error without the backtrace that it carries if the environment asks for one.
pub(crate) fn plain(error: candle_core::Error) -> candle_core::Error {
    use candle_core::Error as E;
    match error {
        E::WithBacktrace { inner, .. } => plain(*inner),
        E::WithPath { inner, path } => E::WithPath { inner: Box::new(plain(*inner)), path },
        E::Context { inner, context } => E::Context { inner: Box::new(plain(*inner)), context },
        other => other,
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Candle(plain(error))
    }
}

/// What to do about weights in another form.
fn remedy(found: &str) -> &'static str {
    match found.ends_with(".gguf") {
        true => "; name that file",
        false => ", a pickle, which is not read because it can run code; save the model with `safe_serialization=True`",
    }
}

/// Names in a sentence: all of a few, the first of many.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 24;
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

fn listed_as(noun: &str, names: &[String]) -> String {
    format!("{} {noun}{} ({})", names.len(), if names.len() == 1 { "" } else { "s" }, listed(names))
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
