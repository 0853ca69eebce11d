//! What a model's numbers come from, as one short text.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::hashes::{Hashes, Stamp, hex};
use super::source::Source;
use crate::config::Config;
use crate::{Error, Result};

/// The content of a checkpoint's weight files, its config, and how it was loaded. Wherever the files lie, equal ones have equal fingerprints.
pub(crate) struct Fingerprint {
    files: Vec<(PathBuf, Stamp)>,
    /// What else the numbers depend on.
    about: String,
    found: OnceLock<String>,
}

impl Fingerprint {
    /// Of files as they are now. Nothing is read yet.
    pub fn new(files: Vec<&Path>, config: &Config, source: &Source) -> Result<Self> {
        let files = files.into_iter().map(|path| Ok((path.to_path_buf(), Stamp::of(path)?))).collect::<Result<Vec<_>>>()?;
        let mut ignored = source.ignored.clone();
        ignored.sort();
        let about = format!("nnsight 1\n{:?} {:?} {ignored:?}\n{}", source.dtype, source.format, config.to_json());
        Ok(Fingerprint { files, about, found: OnceLock::new() })
    }

    /// The fingerprint. The files are read the first time that it is asked for of files in this state, by any program.
    pub fn get(&self) -> Result<&str> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let hashes = Hashes::in_cache();
        let of_file = |(path, stamp): &(PathBuf, Stamp)| {
            let hash = hashes.of(path)?;
            match Stamp::of(path)? == *stamp {
                true => Ok(hash),
                false => Err(Error::Changed { path: path.clone(), what: "loaded", remedy: "load the model again" }),
            }
        };
        let mut files = self.files.iter().map(of_file).collect::<Result<Vec<_>>>()?;
        files.sort();
        let found = hex(&Sha256::digest(format!("{}\n{}", files.join(" "), self.about)));
        Ok(self.found.get_or_init(|| found))
    }
}
