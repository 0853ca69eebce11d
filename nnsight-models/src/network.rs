//! What an architecture is.

use nnsight_core::run::Stages;
use nnsight_core::sites::{Registrar, SiteTable};
use nnsight_lm::PromptKind;

use crate::Result;
use crate::config::Config;
use crate::loading::{GgufNames, Weights};
use crate::transformer::{Staged, Transformer};

/// An architecture: what builds it from a checkpoint.
pub trait Network: Transformer {
    /// What a `config.json` calls it.
    const MODEL_TYPE: &'static str;
    /// What a GGUF file calls it and its parts, if it can be loaded from one.
    const GGUF: Option<&'static GgufNames> = None;
    /// Builds it.
    ///
    /// # Errors
    /// If the config asks for what it does not do, or a weight is missing.
    fn build(config: &Config, weights: &mut Weights) -> Result<Self>
    where
        Self: Sized;
}

/// A network of any architecture.
pub(crate) type AnyNetwork = dyn Stages + Send + Sync;

/// An architecture as data: what loads and runs a model takes this, so that it is compiled once, and not again for every signature in the programs
/// of users.
#[derive(Clone, Copy)]
pub(crate) struct Architecture {
    pub model_type: &'static str,
    pub gguf: Option<&'static GgufNames>,
    /// Whether it continues prompts.
    pub generates: bool,
    /// The network, and the number of its sites.
    pub build: fn(&Config, &mut Weights) -> Result<(Box<AnyNetwork>, usize)>,
    pub describe: fn(Registrar) -> nnsight_core::Result<SiteTable>,
}

impl Architecture {
    pub fn of<N: Network>() -> Self {
        Architecture {
            model_type: N::MODEL_TYPE,
            gguf: N::GGUF,
            generates: N::Kind::GENERATES,
            build: |config, weights| {
                let mut network = N::build(config, weights)?;
                let mut sites = 0;
                network.attach(&mut sites);
                Ok((Box::new(Staged { network, device: weights.device().clone(), dtype: weights.dtype() }), sites))
            },
            describe: Registrar::model::<N>,
        }
    }
}
