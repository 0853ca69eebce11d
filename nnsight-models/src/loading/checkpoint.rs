//! Finds and opens a checkpoint.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::fingerprint::Fingerprint;
use super::gguf::Gguf;
use super::gguf_names::GgufNames;
use super::safetensors::Safetensors;
use super::source::{Location, Source};
use super::weights::{Files, Weights};
use super::{builtin, regular};
use crate::config::{Config, end_tokens};
use crate::error::at;
use crate::tokenizer::Tokenizer;
use crate::{Error, NoTokenizer, Result};

/// Everything that is read of a checkpoint before its weights.
pub(crate) struct Checkpoint {
    pub config: Config,
    /// The tokens that end a text.
    pub ends: Vec<u32>,
    /// Or why there is none.
    pub tokenizer: Result<Tokenizer, NoTokenizer>,
    pub weights: Weights,
    pub fingerprint: Fingerprint,
}

/// Finds and opens a checkpoint of an architecture that has these names for GGUF files.
pub(crate) fn open(source: &Source, model_type: &'static str, names: Option<&'static GgufNames>) -> Result<Checkpoint> {
    source.check()?;
    let path = find(source)?;
    if std::fs::metadata(&path).map_err(at(&path))?.is_dir() {
        return of_folder(&path, Files::Safetensors(Safetensors::open_folder(&path)?), source);
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "gguf" => {
            let mut gguf = Gguf::open(&path, names.ok_or(Error::NoGguf { architecture: model_type })?)?;
            let config = gguf.config(model_type, &source.ignored)?.ignoring(source.ignored.iter().cloned());
            let tokenizer = gguf.tokenizer();
            let ends = config.end_tokens()?;
            finish(config, ends, tokenizer, Files::Gguf(gguf), source)
        }
        "safetensors" => {
            let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
            of_folder(&folder, Files::Safetensors(Safetensors::open_file(path)?), source)
        }
        _ => Err(Error::Format { path, format: "GGUF or safetensors", problem: "its name ends with neither `.gguf` nor `.safetensors`".into() }),
    }
}

fn find(source: &Source) -> Result<PathBuf> {
    if let (Some(revision), Location::Builtin(name)) = (&source.revision, &source.location) {
        let reasons = vec![format!("`{revision}` is a revision, which only a repository of the hub has, written `owner/name`")];
        return Err(Error::NotFound { name: name.clone(), reasons });
    }
    match &source.location {
        Location::Builtin(name) => builtin::find(name, &source.notices),
        Location::Path(path) if source.revision.is_some() => {
            let reasons = vec!["a file has no revision; only a repository of the hub has".to_string()];
            Err(Error::NotFound { name: path.display().to_string(), reasons })
        }
        Location::Path(path) => Ok(path.clone()),
        #[cfg(feature = "hub")]
        Location::Hub(repository) => super::hub::folder(repository, source.revision.as_deref(), &source.notices),
        #[cfg(not(feature = "hub"))]
        Location::Hub(repository) => {
            let reasons = vec!["the feature `hub` is switched off".to_string()];
            Err(Error::NotFound { name: repository.clone(), reasons })
        }
    }
}

/// With what lies beside the weights.
fn of_folder(folder: &Path, files: Files, source: &Source) -> Result<Checkpoint> {
    let config = Config::from_json(&regular::text(&folder.join("config.json"), regular::SMALL)?)?;
    let config = config.ignoring(source.ignored.iter().cloned());
    let file = folder.join("tokenizer.json");
    let tokenizer = match file.exists() {
        true => Ok(regular::check(&file, regular::TOKENIZER).and_then(|()| Tokenizer::read(&file))?),
        false => Err(NoTokenizer::Missing),
    };
    // What is said of generation is said there, in the newer checkpoints; the config repeats it, not always in full.
    let ends = match generation_ends(&folder.join("generation_config.json"))? {
        Some(ends) => ends,
        None => config.end_tokens()?,
    };
    finish(config, ends, tokenizer, files, source)
}

/// The end tokens of a `generation_config.json`, if there is one that names any.
fn generation_ends(path: &Path) -> Result<Option<Vec<u32>>> {
    if !path.exists() {
        return Ok(None);
    }
    let json = serde_json::from_str::<Value>(&regular::text(path, regular::SMALL)?);
    let json = json.map_err(|error| Error::Format { path: path.to_path_buf(), format: "JSON", problem: error.to_string() })?;
    end_tokens(json.get("eos_token_id"))
}

fn finish(config: Config, ends: Vec<u32>, tokenizer: Result<Tokenizer, NoTokenizer>, files: Files, source: &Source) -> Result<Checkpoint> {
    let fingerprint = Fingerprint::new(files.paths(), &config, source)?;
    Ok(Checkpoint { config, ends, tokenizer, weights: Weights::new(files, source), fingerprint })
}
