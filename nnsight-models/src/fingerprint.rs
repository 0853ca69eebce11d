//! What tells a loaded model from another: a hash of its files, made when it is first asked for.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

use candle_core::DType;
use nnsight_core::trace::Fingerprint;
use sha2::{Digest, Sha256};

use crate::error::at;
use crate::layers::WeightFormat;
use crate::{Error, Result};

/// What a model was loaded from, and in which form.
pub(crate) struct Origin {
    config: String,
    dtype: DType,
    format: Option<WeightFormat>,
    files: Vec<(PathBuf, Option<Stamp>)>,
    hash: OnceLock<u64>,
}

/// The size of a file, and when it was written last.
type Stamp = (u64, Option<SystemTime>);

fn stamp(path: &PathBuf) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}

impl Origin {
    pub fn new(config: String, dtype: DType, format: Option<WeightFormat>, files: Vec<PathBuf>) -> Self {
        let files = files.into_iter().map(|path| (stamp(&path), path)).map(|(stamp, path)| (path, stamp)).collect();
        Origin { config, dtype, format, files, hash: OnceLock::new() }
    }

    /// The fingerprint. The files are read once.
    ///
    /// # Errors
    /// If a file cannot be read, or was changed since.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let hash = match self.hash.get() {
            Some(&hash) => hash,
            None => *self.hash.get_or_init({
                let hash = self.hash()?;
                move || hash
            }),
        };
        Ok(Fingerprint { hash, dtype: self.dtype })
    }

    fn hash(&self) -> Result<u64> {
        let mut hasher = Sha256::new();
        hasher.update(format!("{}\n{}\n{:?}\n", self.config, self.dtype.as_str(), self.format));
        let mut block = vec![0; 1 << 20];
        for (path, before) in &self.files {
            if stamp(path) != *before {
                let problem = std::io::Error::other("it was changed after the model was loaded from it; load the model again");
                return Err(Error::File { path: path.clone(), problem });
            }
            let mut file = File::open(path).map_err(at(path))?;
            loop {
                match file.read(&mut block).map_err(at(path))? {
                    0 => break,
                    count => hasher.update(&block[..count]),
                }
            }
        }
        let digest = hasher.finalize();
        Ok(digest.iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_results_depend_on_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (one, other) = (file("one", "weights"), file("other", "weightz"));
        let of = |config: &str, dtype, format, path: &PathBuf| Origin::new(config.into(), dtype, format, vec![path.clone()]).fingerprint().unwrap();
        let first = of("{}", DType::F32, None, &one);
        assert_eq!(of("{}", DType::F32, None, &file("copy", "weights")), first);
        let others = [
            of("{ }", DType::F32, None, &one),
            of("{}", DType::BF16, None, &one),
            of("{}", DType::F32, Some(WeightFormat::Q8_0), &one),
            of("{}", DType::F32, None, &other),
        ];
        assert!(others.iter().all(|other| other.hash != first.hash));
    }

    #[test]
    fn a_file_that_was_changed_since_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, "weights").unwrap();
        let origin = Origin::new(String::new(), DType::F32, None, vec![path.clone()]);
        std::fs::write(&path, "other weights").unwrap();
        assert!(origin.fingerprint().unwrap_err().to_string().contains("it was changed after the model was loaded"));
    }
}
