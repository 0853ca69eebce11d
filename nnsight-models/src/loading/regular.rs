//! Files as they are opened and read: regular ones only, and no further than files of their kind reach.

use std::fs::{File, FileType};
use std::io::Read;
use std::path::Path;

use crate::error::at;
use crate::{Error, Result};

/// The longest config or index that is read.
pub const SMALL: u64 = 32 << 20;

/// The longest `tokenizer.json` that is read: those of vocabularies of a quarter of a million tokens have 35 MB.
pub const TOKENIZER: u64 = 512 << 20;

/// Opens a file, with its length. A pipe would block, and a device may never end.
pub fn open(path: &Path) -> Result<(File, u64)> {
    let metadata = std::fs::metadata(path).map_err(at(path))?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.to_path_buf(), found: kind(metadata.file_type()) });
    }
    let file = File::open(path).map_err(at(path))?;
    Ok((file, metadata.len()))
}

/// Refuses what is not a file or longer than files of its kind are.
pub fn check(path: &Path, limit: u64) -> Result<()> {
    match open(path)? {
        (_, length) if length > limit => Err(Error::TooLong { path: path.to_path_buf(), limit }),
        _ => Ok(()),
    }
}

/// Reads a text of at most `limit` bytes.
pub fn text(path: &Path, limit: u64) -> Result<String> {
    let (file, length) = open(path)?;
    let mut text = String::new();
    // The length may be that of a file which grows, or of one that has none, as in `/proc`.
    let read = if length > limit { limit + 1 } else { file.take(limit + 1).read_to_string(&mut text).map_err(at(path))? as u64 };
    match read > limit {
        true => Err(Error::TooLong { path: path.to_path_buf(), limit }),
        false => Ok(text),
    }
}

fn kind(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_not_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(text(&file, 5).unwrap(), "12345");
        assert!(matches!(text(&file, 4), Err(Error::TooLong { limit: 4, .. })));
        assert!(matches!(check(&file, 4), Err(Error::TooLong { limit: 4, .. })));
        assert!(matches!(text(folder.path(), 5), Err(Error::NotAFile { found: "a folder", .. })));
        assert!(matches!(text(&folder.path().join("none"), 5), Err(Error::File { .. })));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn devices_are_refused_and_files_without_a_length_read_within_the_limit() {
        assert!(matches!(text(Path::new("/dev/zero"), 5), Err(Error::NotAFile { found: "a device", .. })));
        assert!(matches!(text(Path::new("/proc/self/maps"), 5), Err(Error::TooLong { .. })));
    }
}
