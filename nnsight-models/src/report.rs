//! How an error of loading or using a model is shown, and what to do about it.

use std::fmt::{Debug, Display, Formatter};
use std::path::Path;

use nnsight_core::{Error as TraceError, Report};

use crate::{Error, known};

impl Error {
    /// What to do about it, where there is something to say beside the sentence itself.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Error::Trace(error) => return error.help(),
            Error::Loading { problem, .. } => return problem.help(),
            Error::Format { .. } => "fetch or copy the file again, or name another one".into(),
            Error::OtherCheckpoint { .. } => "load it with the signature that it has, or with `Dynamic`, which takes any sizes".into(),
            Error::OtherArchitecture { .. } => format!("what can be loaded is {}", known::listed()),
            Error::MissingTensors { .. } => "the checkpoint may lack one of its files; see that all of them are in its folder".into(),
            Error::TensorShape { .. } => "`config.json` and the weights are of different models; take both from one place".into(),
            Error::Checksum { .. } => "try again; what stands between here and the hub may have changed it".into(),
            Error::NoWeights { .. } => "look at shapes with `scan!`, or `load` the model".into(),
            Error::NoSizes { .. } => "use the signature of a checkpoint, such as `Llama3_1_8B`".into(),
            Error::NotOneToken { .. } => "tokens often begin with a space".into(),
            Error::SeveralTexts { .. } => "take it with `.at(Batch, row)`, or all of them with `decode_rows`".into(),
            Error::NoToken { .. } => "ids are whole numbers from 0".into(),
            Error::File { path, problem } if problem.kind() == std::io::ErrorKind::NotFound => missing(path),
            // What failed says itself what is the matter, and what to do.
            Error::UnusedTensors { .. }
            | Error::UnknownKeys { .. }
            | Error::OtherHead { .. }
            | Error::NotFinite { .. }
            | Error::UnknownType { .. }
            | Error::FormatUnfit { .. }
            | Error::Quantization { .. }
            | Error::Split { .. }
            | Error::OtherWeights { .. }
            | Error::NotAFile { .. }
            | Error::TooLong { .. }
            | Error::Changed { .. }
            | Error::Download { .. }
            | Error::NoTokenizer(_)
            | Error::NoChatTemplate { .. }
            | Error::ChatTemplate { .. }
            | Error::NoGguf { .. }
            | Error::NoSuchSize { .. }
            | Error::NoLogits { .. } => return None,
            Error::File { .. } | Error::Config(_) | Error::NotFound { .. } | Error::Tokenizer(_) | Error::Candle(_) => return None,
        })
    }

    /// What to show to the user.
    pub fn report(&self) -> Report {
        match self {
            // A model handle has errors of this crate in those of a trace.
            Error::Trace(error) => match error {
                TraceError::Model { problem, .. } => match problem.downcast_ref::<Error>() {
                    Some(own) => own.report().or_at(error.source_line()),
                    None => error.report(),
                },
                error => error.report(),
            },
            Error::Loading { problem, source_line } => problem.report().or_at(Some(source_line)),
            error => {
                let (sentence, help) = (error.to_string(), error.help());
                let then = help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
                Report::new(sentence.strip_suffix(&then).unwrap_or(&sentence), None, help)
            }
        }
    }
}

/// What to do about a file that does not exist.
fn missing(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => format!("check the path: it starts at the folder that the program runs in, `{}`", folder.display()),
        _ => "check the path: a checkpoint is a folder with `config.json` and weights, or a `.gguf` file".into(),
    }
}

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.report(), f)
    }
}
