//! SHA-256 of files, computed once for each state of a file.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::{cache, regular};
use crate::Result;
use crate::error::at;

/// What changes if a file does: its size and its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    modified: u128,
    /// When the system last changed anything about it, which no program can set back.
    changed: i128,
}

impl Stamp {
    pub fn of(path: &Path) -> Result<Self> {
        Ok(Stamp::from(&std::fs::metadata(path).map_err(at(path))?))
    }

    fn text(self) -> String {
        let Stamp { size, modified, changed } = self;
        format!("{size} {modified} {changed}")
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt;
            i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let changed = 0;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Stamp { size: metadata.len(), modified: modified.map_or(0, |time| time.as_nanos()), changed }
    }
}

/// A folder in which hashes are remembered, by the path of the file and its stamp.
pub struct Hashes {
    /// Without one, every hash is computed anew.
    folder: Option<PathBuf>,
}

impl Hashes {
    #[cfg(test)]
    pub fn in_folder(folder: PathBuf) -> Self {
        Hashes { folder: Some(folder) }
    }

    /// In the cache of this library.
    pub fn in_cache() -> Self {
        Hashes { folder: cache::folder().ok().map(|folder| folder.join("hashes")) }
    }

    /// The hash of a file, as hexadecimal digits.
    pub fn of(&self, path: &Path) -> Result<String> {
        let stamp = Stamp::of(path)?;
        let entry = self.entry(path);
        let known = entry.as_ref().and_then(|entry| regular::text(entry, 4096).ok());
        if let Some((known, hash)) = known.as_ref().and_then(|line| line.trim_end().rsplit_once(' '))
            && known == stamp.text()
        {
            return Ok(hash.to_string());
        }
        let hash = file(path)?;
        // Of a file that changed meanwhile, neither state may be remembered.
        if Stamp::of(path)? == stamp {
            self.remember(path, &hash);
        }
        Ok(hash)
    }

    /// Remembers a hash that has just been computed. If that fails, it is computed again the next time.
    pub fn remember(&self, path: &Path, hash: &str) {
        let (Some(entry), Ok(stamp)) = (self.entry(path), Stamp::of(path)) else { return };
        let _ = write(&entry, &format!("{} {hash}\n", stamp.text()));
    }

    fn entry(&self, path: &Path) -> Option<PathBuf> {
        let path = std::fs::canonicalize(path).ok()?;
        Some(self.folder.as_ref()?.join(hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()))))
    }
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// The hash of a file, computed.
pub fn file(path: &Path) -> Result<String> {
    let (mut file, _) = regular::open(path)?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(at(path))?;
    Ok(hex(&hasher.finalize()))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_remembered_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let hashes = Hashes::in_folder(folder.path().join("hashes"));
        let path = folder.path().join("model");
        std::fs::write(&path, "right").unwrap();
        let right = hashes.of(&path).unwrap();
        assert_eq!(right, hex(&Sha256::digest("right")));
        // What is remembered is what is returned.
        let entry = hashes.entry(&path).unwrap();
        let line = std::fs::read_to_string(&entry).unwrap();
        std::fs::write(&entry, line.replace(&right, "remembered")).unwrap();
        assert_eq!(hashes.of(&path).unwrap(), "remembered");
        // The same length and the same time of modification do not hide other bytes.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, "wrong").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        #[cfg(unix)]
        assert_eq!(hashes.of(&path).unwrap(), hex(&Sha256::digest("wrong")));
        // A folder that cannot be written to costs time, and nothing else.
        let nowhere = Hashes::in_folder(path.join("not-a-folder"));
        assert_eq!(nowhere.of(&path).unwrap(), hex(&Sha256::digest("wrong")));
    }
}
