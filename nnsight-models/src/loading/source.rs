//! Where a model comes from.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use super::gguf::Gguf;
use super::known;
use super::safetensors::Safetensors;
use super::weights::{Files, Weights};
use crate::config::Config;
use crate::error::at;
use crate::layers::WeightFormat;
use crate::tokenizer::Tokenizer;
use crate::{Error, NoTokenizer, Result};

/// Where a model comes from, in which type and on which device it is to be.
///
/// # Examples
/// ```
/// use candle_core::DType;
/// use nnsight_models::Source;
/// let by_name = Source::from("smollm2-135m");
/// let from_hub = Source::from("HuggingFaceTB/SmolLM2-360M").dtype(DType::BF16);
/// let from_disk = Source::from("./checkpoints/my-llama");
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) location: Location,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
    pub(crate) format: Option<WeightFormat>,
}

/// A place where a model can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A model that this library knows by name: `smollm2-135m`.
    Known(String),
    /// A repository of the Hugging Face hub: `HuggingFaceTB/SmolLM2-135M`.
    Hub(String),
    /// A folder with `config.json`, or a `.gguf` or `.safetensors` file.
    Path(PathBuf),
}

impl Default for Source {
    /// SmolLM2-135M-Instruct, which needs neither an account nor much room.
    fn default() -> Self {
        Source::from(known::DEFAULT)
    }
}

impl From<&str> for Source {
    /// A path where there is one, else a known name, else a repository of the hub.
    fn from(name: &str) -> Self {
        let is_path = Path::new(name).exists() || name.starts_with(['.', '/', '~']) || name.ends_with(".gguf") || name.ends_with(".safetensors");
        let location = match is_path {
            true => Location::Path(PathBuf::from(name)),
            false if name.contains('/') => Location::Hub(name.to_string()),
            false => Location::Known(name.to_string()),
        };
        Source { location, dtype: DType::F32, device: Device::Cpu, format: None }
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Source { location: Location::Path(path.to_path_buf()), dtype: DType::F32, device: Device::Cpu, format: None }
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Source::from(path.as_path())
    }
}

impl Source {
    /// The type of the weights in memory: `F32` (the default), `BF16` or `F16`.
    pub fn dtype(self, dtype: DType) -> Self {
        Source { dtype, ..self }
    }

    /// Has the matrices of linear maps held in fewer bits, and widened as they are used: less memory, and a generation that is faster by
    /// about as much. Only on the CPU.
    ///
    /// # Examples
    /// ```no_run
    /// use nnsight_models::{Llama, SmolLm2_135M, Source, WeightFormat};
    /// let model = Llama::<SmolLm2_135M>::load(Source::default().weights(WeightFormat::Q8_0))?;
    /// # Ok::<(), nnsight_models::Error>(())
    /// ```
    pub fn weights(self, format: WeightFormat) -> Self {
        Source { format: Some(format), ..self }
    }

    /// Where the model computes; the CPU by default.
    pub fn device(self, device: Device) -> Self {
        Source { device, ..self }
    }

    /// Where it comes from.
    pub fn location(&self) -> &Location {
        &self.location
    }
}

/// Everything that is read of a checkpoint before its weights.
pub(crate) struct Checkpoint {
    pub config: Config,
    pub tokenizer: Result<Tokenizer, NoTokenizer>,
    pub weights: Weights,
}

/// Finds and opens a checkpoint.
pub(crate) fn open(source: &Source) -> Result<Checkpoint> {
    let path = match &source.location {
        Location::Known(name) => known::find(name)?,
        Location::Path(path) => path.clone(),
        #[cfg(feature = "hub")]
        Location::Hub(repository) => super::hub::folder(repository)?,
        #[cfg(not(feature = "hub"))]
        Location::Hub(repository) => {
            let reasons = vec!["the feature `hub` is switched off".to_string()];
            return Err(Error::NotFound { name: repository.clone(), reasons });
        }
    };
    let metadata = std::fs::metadata(&path).map_err(at(&path))?;
    if metadata.is_dir() {
        return folder(&path, source);
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gguf") => {
            let mut gguf = Gguf::open(&path)?;
            let (config, tokenizer) = (gguf.config()?, gguf.tokenizer());
            let weights = Weights::new(Files::Gguf(gguf), source.dtype, &source.device, source.format);
            Ok(Checkpoint { config, tokenizer, weights })
        }
        Some("safetensors") => folder(path.parent().unwrap_or(Path::new(".")), source),
        _ => Err(Error::Format { path, format: "GGUF or safetensors", problem: "its name ends with neither `.gguf` nor `.safetensors`".into() }),
    }
}

fn folder(path: &Path, source: &Source) -> Result<Checkpoint> {
    let file = path.join("config.json");
    let config = Config::from_json(&std::fs::read_to_string(&file).map_err(at(&file))?)?;
    let tokenizer = path.join("tokenizer.json");
    let tokenizer = if tokenizer.exists() { Ok(Tokenizer::from_file(&tokenizer)?) } else { Err(NoTokenizer::Missing) };
    let weights = Weights::new(Files::Safetensors(Safetensors::open_folder(path)?), source.dtype, &source.device, source.format);
    Ok(Checkpoint { config, tokenizer, weights })
}
