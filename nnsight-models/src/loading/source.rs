//! Where a model comes from.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use super::builtin;
use super::notices::Notices;
use crate::{Error, Result};
use nnsight_kernels::WeightFormat;

/// Where a model comes from, in which type and on which device it is to be.
///
/// # Examples
/// ```
/// use candle_core::DType;
/// use nnsight_models::Source;
/// let by_name = Source::from("smollm2-135m");
/// let from_hub = Source::from("HuggingFaceTB/SmolLM2-360M").dtype(DType::BF16);
/// let pinned = Source::from("openai-community/gpt2").revision("607a30d783dfa663caf39e06633721c8d4cfcd7e");
/// let from_disk = Source::from("./checkpoints/my-llama");
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) location: Location,
    /// Of a repository of the hub.
    pub(crate) revision: Option<String>,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
    pub(crate) format: Option<WeightFormat>,
    pub(crate) only_finite: bool,
    /// Keys of the config and names of tensors.
    pub(crate) ignored: Vec<String>,
    pub(crate) notices: Notices,
}

/// A place where a model can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A model that this library knows by name: `smollm2-135m`.
    Builtin(String),
    /// A repository of the Hugging Face hub: `HuggingFaceTB/SmolLM2-135M`.
    Hub(String),
    /// A folder with `config.json`; a `.gguf` file; or a `.safetensors` file with a `config.json` beside it, of which no other file is read.
    Path(PathBuf),
}

impl Default for Source {
    /// `smollm2-135m`: SmolLM2-135M-Instruct in 4 bits (Q4_1), 98 MB, which needs no account. Its bytes are pinned by their SHA-256, and checked.
    fn default() -> Self {
        Source::from(builtin::DEFAULT)
    }
}

impl From<&str> for Source {
    /// A path if there is one, else a known name, else a repository of the hub.
    fn from(name: &str) -> Self {
        let is_path = Path::new(name).exists() || name.starts_with(['.', '/', '~']) || name.ends_with(".gguf") || name.ends_with(".safetensors");
        let location = match is_path {
            true => Location::Path(PathBuf::from(name)),
            false if name.contains('/') => Location::Hub(name.to_string()),
            false => Location::Builtin(name.to_string()),
        };
        Source::at(location)
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Source::at(Location::Path(path.to_path_buf()))
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Source::from(path.as_path())
    }
}

impl Source {
    fn at(location: Location) -> Self {
        Source {
            location,
            revision: None,
            dtype: DType::F32,
            device: Device::Cpu,
            format: None,
            only_finite: true,
            ignored: Vec::new(),
            notices: Notices::default(),
        }
    }

    /// The commit, branch or tag of a repository of the hub; `main` by default. A commit, which is 40 digits, pins the model: the same bytes whenever
    /// it is loaded.
    pub fn revision(self, revision: &str) -> Self {
        Source { revision: Some(revision.to_string()), ..self }
    }

    /// Keys of the config and tensors of the files that are not to be taken into account. A key that this library does not know, or knows to change
    /// what a model computes, is refused otherwise, and so is a tensor that is not used.
    ///
    /// # Examples
    /// ```
    /// use nnsight_models::Source;
    /// // Prompts are shorter than the window, and the classifier is not needed.
    /// let source = Source::from("./my-llama").ignoring(["sliding_window", "score.weight"]);
    /// ```
    pub fn ignoring<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        let mut ignored = self.ignored;
        ignored.extend(names.into_iter().map(Into::into));
        Source { ignored, ..self }
    }

    /// Loads weights that are infinite or not a number, which are refused otherwise: a run with such weights mostly computes nothing but these.
    pub fn allow_non_finite(self) -> Self {
        Source { only_finite: false, ..self }
    }

    /// Is told, in a line each, of every download, and of every program that is run for one. By default the line is printed to stderr.
    ///
    /// # Examples
    /// ```
    /// use nnsight_models::Source;
    /// let silent = Source::default().on_notice(|_| {});
    /// ```
    pub fn on_notice(self, notice: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Source { notices: Notices::new(notice), ..self }
    }

    /// The type of the weights in memory, in which the model computes: `F32` (the default), `BF16`, `F16` or `F64`.
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

    /// Refuses what no model can be loaded with.
    pub(super) fn check(&self) -> Result<()> {
        if !matches!(self.dtype, DType::F32 | DType::F64 | DType::BF16 | DType::F16) {
            return Err(Error::UnknownType { found: self.dtype });
        }
        match self.format {
            Some(format) if self.dtype != DType::F32 => Err(Error::FormatUnfit { format, found: format!("{:?}", self.dtype) }),
            Some(format) if !format.exists_on(&self.device) => Err(Error::FormatUnfit { format, found: "another device".into() }),
            _ => Ok(()),
        }
    }
}
