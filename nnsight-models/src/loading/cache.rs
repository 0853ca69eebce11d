//! The project's own cache of model files: complete and checked, or not there.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::hashes::{self, Hashes};
use super::notices::Notices;
use crate::error::at;
use crate::{Error, Result};

/// The cache: `$NNSIGHT_CACHE` unless it is empty, else `nnsight` in the platform's cache folder.
pub fn folder() -> Result<PathBuf> {
    named(std::env::var_os("NNSIGHT_CACHE"))
}

/// An empty name would be the folder that the program runs in.
fn named(name: Option<OsString>) -> Result<PathBuf> {
    let folder = name.filter(|name| !name.is_empty()).map(PathBuf::from).or_else(|| Some(dirs::cache_dir()?.join("nnsight")));
    folder.ok_or_else(|| Error::NotFound {
        name: "cache".into(),
        reasons: vec!["this platform has no cache folder; set `NNSIGHT_CACHE` to a folder of your choice".into()],
    })
}

/// A file to be had, with the mirrors that have it, in the order in which they are tried.
pub struct Download<'a> {
    pub name: &'a str,
    pub file: &'a str,
    pub sha256: &'static str,
    /// Its length in bytes.
    pub size: u64,
    pub mirrors: Vec<Mirror>,
    pub notices: &'a Notices,
}

/// Where a file can be downloaded from: writes it to the path it is given.
pub struct Mirror {
    pub name: &'static str,
    #[allow(clippy::type_complexity)]
    pub fetch: Box<dyn Fn(&Path) -> Result<()>>,
}

/// Returns the path of the file in the cache, and downloads it first if it is not there. A file that is there is checked too: its hash is computed
/// once, and again if the file changes.
///
/// A download goes to a folder of its own and is moved into place when its checksum is right, so that nothing half-written is ever seen.
/// A lock keeps two processes from downloading at once; the second finds what the first has brought.
pub fn find_or_download(cache: &Path, hashes: &Hashes, download: &Download<'_>) -> Result<PathBuf> {
    let target = cache.join(download.file);
    if target.exists() {
        return match hashes.of(&target)? == download.sha256 {
            true => Ok(target),
            false => Err(Error::Changed { path: target, what: "downloaded", remedy: "delete it, and the next load downloads it again" }),
        };
    }
    std::fs::create_dir_all(cache).map_err(at(cache))?;
    let lock = cache.join(format!("{}.lock", download.file));
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(at(&lock))?;
    let result = if target.exists() { Ok(()) } else { fetch(cache, download, &target) };
    drop(lock);
    result?;
    hashes.remember(&target, download.sha256);
    Ok(target)
}

fn fetch(cache: &Path, download: &Download<'_>, target: &Path) -> Result<()> {
    let mut reasons = Vec::new();
    let mut wrong = None;
    for mirror in &download.mirrors {
        // Removed with everything in it, whatever happens.
        let folder = tempfile::Builder::new().prefix(".download-").tempdir_in(cache).map_err(at(cache))?;
        let file = folder.path().join(download.file);
        download.notices.say(&format!("downloading {} ({} MB) from {} …", download.name, download.size / 1_000_000, mirror.name));
        match (mirror.fetch)(&file).and_then(|()| check(&file, download)) {
            Ok(()) => return std::fs::rename(&file, target).map_err(at(target)),
            Err(error) => {
                reasons.push(format!("from {}: {error}", mirror.name));
                if let Error::Checksum { .. } = error {
                    wrong = Some(error);
                }
            }
        }
    }
    match wrong {
        Some(error) => Err(error),
        None => Err(Error::NotFound { name: download.name.to_string(), reasons }),
    }
}

fn check(file: &Path, download: &Download<'_>) -> Result<()> {
    let found = hashes::file(file)?;
    match found == download.sha256 {
        true => Ok(()),
        false => Err(Error::Checksum { what: download.file.to_string(), expected: download.sha256, found }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const FILE: &str = "model.gguf";
    /// Of nothing at all.
    const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn download(sha256: &'static str, mirrors: Vec<Mirror>) -> Download<'static> {
        Download { name: "a-model", file: FILE, sha256, size: 5, mirrors, notices: Box::leak(Box::new(Notices::new(|_| {}))) }
    }

    fn mirror(name: &'static str, fetch: impl Fn(&Path) -> Result<()> + 'static) -> Mirror {
        Mirror { name, fetch: Box::new(fetch) }
    }

    fn writes(content: &'static str) -> impl Fn(&Path) -> Result<()> {
        move |path| std::fs::write(path, content).map_err(at(path))
    }

    fn sum(content: &str) -> &'static str {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, content).unwrap();
        String::leak(hashes::file(&file).unwrap())
    }

    fn find(cache: &Path, download: &Download<'_>) -> Result<PathBuf> {
        find_or_download(cache, &Hashes::in_folder(cache.join("hashes.lock")), download)
    }

    /// What is in the cache besides the lock.
    fn left(cache: &Path) -> Vec<String> {
        let names = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }

    #[test]
    fn a_wrong_checksum_is_an_error_and_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let error = find(cache.path(), &download(SHA256, vec![mirror("somewhere", writes("wrong"))])).unwrap_err();
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
        assert_eq!(left(cache.path()), Vec::<String>::new());
    }

    #[test]
    fn an_interrupted_download_leaves_nothing_and_the_next_way_is_tried() {
        let cache = tempfile::tempdir().unwrap();
        let interrupted = || {
            mirror("one", |path| {
                std::fs::write(path, "ri").map_err(at(path))?;
                Err(Error::NotFound { name: "a-model".into(), reasons: vec!["the line went dead".into()] })
            })
        };
        let message = find(cache.path(), &download(sum("right"), vec![interrupted()])).unwrap_err().to_string();
        assert!(message.contains("from one") && message.contains("the line went dead"), "{message}");
        assert_eq!(left(cache.path()), Vec::<String>::new());
        let path = find(cache.path(), &download(sum("right"), vec![interrupted(), mirror("two", writes("right"))])).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "right");
        assert_eq!(left(cache.path()), [FILE]);
    }

    #[test]
    fn two_at_once_download_once() {
        static FETCHED: AtomicUsize = AtomicUsize::new(0);
        let cache = tempfile::tempdir().unwrap();
        let sha256 = sum("right");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let slow = mirror("slow", |path| {
                        FETCHED.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        writes("right")(path)
                    });
                    let path = find(cache.path(), &download(sha256, vec![slow])).unwrap();
                    assert_eq!(std::fs::read_to_string(path).unwrap(), "right");
                });
            }
        });
        assert_eq!(FETCHED.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_empty_name_is_not_the_current_folder() {
        assert_eq!(named(Some("a/folder".into())).unwrap(), Path::new("a/folder"));
        let default = named(None).unwrap();
        assert!(default.ends_with("nnsight") && default.is_absolute());
        assert_eq!(named(Some("".into())).unwrap(), default);
    }

    #[test]
    fn other_bytes_in_the_cache_are_not_used() {
        let cache = tempfile::tempdir().unwrap();
        let right = || download(sum("right"), vec![mirror("somewhere", writes("right"))]);
        let path = find(cache.path(), &right()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, "wrong").unwrap();
        let message = find(cache.path(), &right()).unwrap_err().to_string();
        assert!(message.contains(FILE) && message.contains("delete it"), "{message}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(std::fs::read_to_string(find(cache.path(), &right()).unwrap()).unwrap(), "right");
    }

    #[test]
    fn a_download_is_announced_and_nothing_is_printed() {
        let cache = tempfile::tempdir().unwrap();
        let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let lines = std::sync::Arc::clone(&said);
        let notices = Notices::new(move |line| lines.lock().unwrap().push(line.to_string()));
        let mirrors = vec![mirror("somewhere", writes("right"))];
        let download = Download { name: "a-model", file: FILE, sha256: sum("right"), size: 98_000_000, mirrors, notices: &notices };
        find(cache.path(), &download).unwrap();
        find(cache.path(), &download).unwrap();
        assert_eq!(*said.lock().unwrap(), ["downloading a-model (98 MB) from somewhere …"]);
    }
}
