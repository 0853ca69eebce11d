//! The Hugging Face hub: the cache is laid out as its own client does it. The requests are made here, because that client waits and follows redirects
//! without end, and writes to whatever path a server names.

use std::fs::File;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use super::hashes::{self, Hashes};
use super::http::{Client, Patience};
use super::notices::Notices;
use super::regular;
use super::shards::{INDEX, Index};
use crate::error::at;
use crate::{Error, Result};

/// What a repository may have beside its config and weights.
const OPTIONAL: [&str; 5] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "generation_config.json"];

/// How often a download goes on where it broke off.
const ATTEMPTS: usize = 3;

/// Brings a repository's config, tokenizer and weights into the hub's cache; returns the folder there.
pub fn folder(repository: &str, revision: Option<&str>, notices: &Notices) -> Result<PathBuf> {
    Hub::from_env(notices)?.bring(repository, revision.unwrap_or("main"))
}

/// Brings one file of a repository to a path.
pub fn file(repository: &str, name: &str, target: &Path) -> Result<()> {
    let silent = Notices::new(|_| {});
    let hub = Hub::from_env(&silent)?;
    let cached = Repository::new(&hub, repository, "main")?.required(name, u64::MAX)?;
    std::fs::copy(&cached, target).map(drop).map_err(at(target))
}

/// The hub, or a stand-in for it.
struct Hub<'a> {
    client: Client,
    cache: Cache,
    hashes: Hashes,
    notices: &'a Notices,
}

impl<'a> Hub<'a> {
    /// As `HF_HOME` and `HF_ENDPOINT` say, unless they are empty.
    fn from_env(notices: &'a Notices) -> Result<Self> {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let cache = match (is_set("HF_HOME"), dirs::home_dir()) {
            (true, _) => Cache::from_env(),
            (false, Some(_)) => Cache::default(),
            (false, None) => {
                let reasons = vec!["there is no home folder; set `HF_HOME` to a folder of your choice".to_string()];
                return Err(Error::NotFound { name: "cache of the hub".into(), reasons });
            }
        };
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let client = Client::new(endpoint.as_deref().unwrap_or("https://huggingface.co"), cache.token(), Patience::default());
        Ok(Hub { client, cache, hashes: Hashes::in_cache(), notices })
    }

    fn bring(&self, name: &str, revision: &str) -> Result<PathBuf> {
        let repository = Repository::new(self, name, revision)?;
        // Without a network, what has been brought is enough; what it lacks cannot be asked for then.
        let was_here = repository.cached("config.json")?.is_some();
        let config = repository.required("config.json", regular::SMALL)?;
        let mut is_offline = false;
        let mut optional = |file: &str, limit: u64| match repository.cached(file)? {
            Some(path) => Ok(Some(path)),
            None if is_offline => Ok(None),
            None => match repository.download(file, limit) {
                Err(Error::Download { .. }) if was_here => {
                    is_offline = true;
                    Ok(None)
                }
                other => other.map_err(|error| repository.failed(&error)),
            },
        };
        for file in OPTIONAL {
            optional(file, regular::TOKENIZER)?;
        }
        match optional(INDEX, regular::SMALL)? {
            // The names are checked before any of them is asked for.
            Some(path) => {
                for file in Index::read(&path, &regular::text(&path, regular::SMALL)?)?.files {
                    repository.required(&file, u64::MAX)?;
                }
            }
            None => drop(repository.required("model.safetensors", u64::MAX)?),
        }
        Ok(config.parent().unwrap_or(Path::new(".")).to_path_buf())
    }
}

/// One revision of a repository.
struct Repository<'a> {
    hub: &'a Hub<'a>,
    name: &'a str,
    revision: &'a str,
    repo: Repo,
}

impl<'a> Repository<'a> {
    fn new(hub: &'a Hub<'a>, name: &'a str, revision: &'a str) -> Result<Self> {
        let parts = name.split('/').collect::<Vec<_>>();
        if parts.len() != 2 || !parts.iter().all(|part| is_plain(part)) {
            let reasons = vec!["a repository of the hub is written `owner/name`; a path begins with `./` or `/`".to_string()];
            return Err(Error::NotFound { name: name.to_string(), reasons });
        }
        if !revision.split('/').all(is_plain) {
            return Err(Error::NotFound {
                name: name.to_string(),
                reasons: vec![format!("{revision:?} is no revision: a commit, a branch or a tag")],
            });
        }
        let repo = Repo::with_revision(name.to_string(), RepoType::Model, revision.to_string());
        Ok(Repository { hub, name, revision, repo })
    }

    fn failed(&self, error: &Error) -> Error {
        Error::NotFound { name: self.name.to_string(), reasons: vec![format!("from the hub: {error}")] }
    }

    fn folder(&self) -> PathBuf {
        self.hub.cache.path().join(self.repo.folder_name())
    }

    /// Whether the revision is a commit, whose files never change.
    fn is_pinned(&self) -> bool {
        is_hex(self.revision, 40)
    }

    fn url(&self, file: &str) -> String {
        format!("{}/{}/resolve/{}/{file}", self.hub.client.endpoint(), self.name, self.revision.replace('/', "%2F"))
    }

    /// A file that must be there.
    fn required(&self, file: &str, limit: u64) -> Result<PathBuf> {
        if let Some(path) = self.cached(file)? {
            return Ok(path);
        }
        let found = self.download(file, limit).map_err(|error| self.failed(&error))?;
        found.ok_or_else(|| self.failed(&Error::Download { url: self.url(file), problem: "404: the repository has no such file".into() }))
    }

    /// A file in the cache. Large ones are named after their SHA-256, by which they are checked.
    fn cached(&self, file: &str) -> Result<Option<PathBuf>> {
        let cache = self.hub.cache.repo(self.repo.clone());
        let pinned = || Some(cache.pointer_path(self.revision).join(file)).filter(|path| self.is_pinned() && path.exists());
        let Some(path) = cache.get(file).or_else(pinned) else { return Ok(None) };
        let blob = std::fs::canonicalize(&path).map_err(at(&path))?;
        match blob.file_name().and_then(|name| name.to_str()).filter(|name| is_hex(name, 64)) {
            Some(hash) if self.hub.hashes.of(&blob)? != hash => {
                Err(Error::Changed { path: blob, what: "downloaded", remedy: "delete it, and the next load downloads it again" })
            }
            _ => Ok(Some(path)),
        }
    }

    /// Downloads a file, unless the repository has none of this name.
    fn download(&self, file: &str, limit: u64) -> Result<Option<PathBuf>> {
        let url = self.url(file);
        let failed = |problem: String| Error::Download { url: url.clone(), problem };
        let answer = self.hub.client.get(&url, "bytes=0-0")?;
        match answer.status {
            200 | 206 => {}
            404 => return Ok(None),
            status @ (401 | 403) => {
                let problem = "the repository does not exist, or asks for an account and a licence: accept it, and run `hf auth login`";
                return Err(failed(format!("{status}: {problem}")));
            }
            status => return Err(failed(format!("the server answers {status}"))),
        }
        // Both become names in the cache.
        let named = |what: &str, name: &Option<String>| {
            let name = name.clone().ok_or_else(|| failed(format!("the server does not say the {what}")))?;
            if is_plain(&name) { Ok(name) } else { Err(failed(format!("the server says the {what} {name:?}, which is none"))) }
        };
        let (commit, etag) = (named("commit", &answer.commit)?, named("etag", &answer.etag)?);
        if self.is_pinned() && commit != self.revision {
            return Err(failed(format!("the server answers with the commit {commit}")));
        }
        let size = answer.size().ok_or_else(|| failed("the server does not say how long the file is".into()))?;
        if size > limit {
            return Err(failed(format!("{size} bytes are more than the {limit} that a file of this kind has")));
        }
        drop(answer);
        let blob = self.blob(&url, &etag, size)?;
        let snapshot = self.folder().join("snapshots").join(&commit);
        std::fs::create_dir_all(&snapshot).map_err(at(&snapshot))?;
        let path = snapshot.join(file);
        link(&blob, &Path::new("../../blobs").join(&etag), &path).map_err(at(&path))?;
        self.hub.cache.repo(self.repo.clone()).create_ref(&commit).map_err(at(&path))?;
        Ok(Some(path))
    }

    /// The bytes of a file, under the name of its etag.
    fn blob(&self, url: &str, etag: &str, size: u64) -> Result<PathBuf> {
        let blobs = self.folder().join("blobs");
        std::fs::create_dir_all(&blobs).map_err(at(&blobs))?;
        let (blob, part) = (blobs.join(etag), blobs.join(format!("{etag}.part")));
        let lock = blobs.join(format!("{etag}.lock"));
        let _lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(at(&lock))?;
        if std::fs::metadata(&blob).is_ok_and(|metadata| metadata.len() == size) {
            return Ok(blob);
        }
        if size > 10_000_000 {
            let file = url.rsplit('/').next().unwrap_or(url);
            self.hub.notices.say(&format!("downloading {file} of {} ({} MB) from the hub …", self.name, size / 1_000_000));
        }
        let mut result = self.go_on(url, &part, size);
        for _ in 1..ATTEMPTS {
            if matches!(result, Err(Error::Download { .. })) {
                result = self.go_on(url, &part, size);
            }
        }
        result?;
        if is_hex(etag, 64) {
            let found = hashes::file(&part)?;
            if found != etag {
                std::fs::remove_file(&part).map_err(at(&part))?;
                let problem = format!("the bytes have the SHA-256 {found}, and should have {etag}; nothing of them was kept");
                return Err(Error::Download { url: url.to_string(), problem });
            }
        }
        std::fs::rename(&part, &blob).map_err(at(&blob))?;
        if is_hex(etag, 64) {
            self.hub.hashes.remember(&blob, etag);
        }
        Ok(blob)
    }

    /// Downloads what is not there of a file.
    fn go_on(&self, url: &str, part: &Path, size: u64) -> Result<()> {
        let mut file = File::options().append(true).create(true).open(part).map_err(at(part))?;
        let mut start = file.metadata().map_err(at(part))?.len();
        if start > size {
            file.set_len(0).map_err(at(part))?;
            start = 0;
        }
        if start == size {
            return Ok(());
        }
        let answer = self.hub.client.get(url, &format!("bytes={start}-"))?;
        if !matches!(answer.status, 200 | 206) {
            return Err(Error::Download { url: url.to_string(), problem: format!("the server answers {}", answer.status) });
        }
        if answer.start() != start {
            // What is there is of no use then: the next attempt begins anew.
            file.set_len(0).map_err(at(part))?;
            let problem = format!("it was asked for the bytes from {start} on, and sends those from {} on", answer.start());
            return Err(Error::Download { url: url.to_string(), problem });
        }
        self.hub.client.save(url, answer, &mut file, start, size)
    }
}

/// Whether a text is a name: no path, nothing hidden.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(is_plain)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Has `path` lead to a blob: by a link if the platform has them, else by a copy.
fn link(blob: &Path, relative: &Path, path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(path)?;
    }
    #[cfg(unix)]
    {
        let _ = blob;
        std::os::unix::fs::symlink(relative, path)
    }
    #[cfg(not(unix))]
    {
        let _ = relative;
        std::fs::copy(blob, path).map(drop)
    }
}

#[cfg(test)]
mod tests {
    //! Against a stand-in for the hub on this machine: it answers as the hub does, for the files of one repository.

    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    type Files = Vec<(&'static str, Vec<u8>)>;

    /// Serves the files; returns the address and the number of requests so far.
    fn serve(files: Files) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = answer(stream, &files, "");
            }
        });
        (address, requests)
    }

    /// `etag` is the name of the file if it is empty.
    fn answer(mut stream: TcpStream, files: &Files, etag: &str) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut start = 0;
        let mut end = None;
        for line in lines {
            let line = line?.to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some((from, to)) = line.strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
                start = from.parse().unwrap_or(0);
                end = to.parse::<usize>().ok();
            }
        }
        let file = files.iter().find(|(name, _)| request.contains(&format!("/owner/tiny/resolve/main/{name} ")));
        let Some((name, bytes)) = file else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        };
        let etag = if etag.is_empty() { name } else { etag };
        let end = end.map_or(bytes.len(), |end| end + 1).min(bytes.len());
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\netag: \"{etag}\"\r\nx-repo-commit: abc\r\ncontent-range: bytes {start}-{}/{}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            end.saturating_sub(1),
            bytes.len(),
            end - start
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&bytes[start..end])
    }

    fn reference(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../tests/reference/llama/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn hub_with(address: &str, cache: &Path, milliseconds: u64) -> Hub<'static> {
        let time = std::time::Duration::from_millis(milliseconds);
        let patience = Patience { connect: time, read: time, window: time, least: 1000, redirects: 5 };
        let notices = Box::leak(Box::new(Notices::new(|_| {})));
        let (client, hashes) = (Client::new(address, None, patience), Hashes::in_folder(cache.join("hashes")));
        Hub { client, cache: Cache::new(cache.to_path_buf()), hashes, notices }
    }

    /// The hub at an address, with the patience that a busy machine needs.
    fn hub(address: &str, cache: &Path) -> Hub<'static> {
        hub_with(address, cache, 20_000)
    }

    fn bring(hub: &Hub<'_>, name: &str) -> Result<PathBuf> {
        hub.bring(name, "main")
    }

    #[test]
    fn a_repository_is_brought_once_and_can_be_loaded() {
        let (address, requests) = serve(vec![("config.json", reference("config.json")), ("model.safetensors", reference("model.safetensors"))]);
        let cache = tempfile::tempdir().unwrap();
        let hub = hub(&address, cache.path());
        let folder = bring(&hub, "owner/tiny").unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), reference("model.safetensors"));
        let model = crate::Llama::<nnsight_core::types::Dynamic>::load(folder.as_path()).unwrap();
        assert_eq!(model.depth(), 3);
        // What is there is not fetched again; what the repository lacks is asked for again.
        let before = requests.load(Ordering::SeqCst);
        bring(&hub, "owner/tiny").unwrap();
        assert_eq!(requests.load(Ordering::SeqCst) - before, OPTIONAL.len() + 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let (address, _) = serve(vec![("config.json", reference("config.json"))]);
        let cache = tempfile::tempdir().unwrap();
        let message = bring(&hub(&address, cache.path()), "owner/tiny").unwrap_err().to_string();
        assert!(message.contains("owner/tiny") && message.contains("404"), "{message}");
        let message = bring(&hub("http://127.0.0.1:1", cache.path()), "owner/other").unwrap_err().to_string();
        assert!(message.contains("owner/other") && message.contains("from the hub"), "{message}");
    }

    #[test]
    fn several_files_are_brought_by_their_index() {
        let index = br#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}}"#.to_vec();
        let files = vec![
            ("config.json", b"{}".to_vec()),
            ("model.safetensors.index.json", index),
            ("one.safetensors", b"1".to_vec()),
            ("two.safetensors", b"2".to_vec()),
        ];
        let (address, _) = serve(files);
        let cache = tempfile::tempdir().unwrap();
        let folder = bring(&hub(&address, cache.path()), "owner/tiny").unwrap();
        assert_eq!(std::fs::read(folder.join("two.safetensors")).unwrap(), b"2");
    }

    #[test]
    fn names_in_an_index_are_checked_before_they_are_asked_for() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("owned.safetensors");
        for name in [target.to_str().unwrap(), "../../../owned.safetensors", "a/b.safetensors", "C:\\owned.safetensors", ".bashrc"] {
            let index = serde_json::json!({ "weight_map": { "a": "one.safetensors", "b": name } }).to_string().into_bytes();
            let files = vec![("config.json", b"{}".to_vec()), ("model.safetensors.index.json", index), ("one.safetensors", b"1".to_vec())];
            let (address, requests) = serve(files);
            let cache = tempfile::tempdir().unwrap();
            let message = bring(&hub(&address, cache.path()), "owner/tiny").unwrap_err().to_string();
            assert!(message.contains("other than files of the folder"), "{message}");
            // Two for each file that is there, one for each that is not: none of the index.
            assert_eq!(requests.load(Ordering::SeqCst), 2 * 2 + OPTIONAL.len());
            assert!(!target.exists());
        }
        for name in ["owner", "owner/..", "../tiny", "owner/a/b", "owner/ti\\ny", "/tiny"] {
            let cache = tempfile::tempdir().unwrap();
            assert!(matches!(bring(&hub("http://127.0.0.1:1", cache.path()), name), Err(Error::NotFound { .. })), "{name}");
            assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
        }
    }

    /// Answers every request with `answer`, given the number of the request.
    fn server(answer: impl Fn(usize, &mut TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (number, mut stream) in listener.incoming().flatten().enumerate() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                answer(number, &mut stream);
            }
        });
        address
    }

    fn refused(address: &str) -> String {
        let cache = tempfile::tempdir().unwrap();
        bring(&hub(address, cache.path()), "owner/tiny").unwrap_err().to_string()
    }

    fn left(address: &str, milliseconds: u64) -> String {
        let cache = tempfile::tempdir().unwrap();
        let start = std::time::Instant::now();
        let message = bring(&hub_with(address, cache.path(), milliseconds), "owner/tiny").unwrap_err().to_string();
        assert!(start.elapsed() < std::time::Duration::from_secs(25), "{:?}", start.elapsed());
        message
    }

    #[test]
    fn servers_that_never_come_to_an_end_are_left() {
        // Not a word.
        let silent = server(|_, _| std::thread::sleep(std::time::Duration::from_secs(30)));
        assert!(left(&silent, 300).contains("timeout"), "{}", left(&silent, 300));
        // To itself, again and again.
        let circle = server(|number, stream| {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: /{number}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        });
        assert!(refused(&circle).contains("redirects more than 5 times"), "{}", refused(&circle));
        // One byte at a time.
        let slow = server(|_, stream| {
            let head =
                "HTTP/1.1 206 Partial Content\r\netag: \"e\"\r\nx-repo-commit: abc\r\ncontent-range: bytes 0-0/99\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            for _ in 0..100 {
                std::thread::sleep(std::time::Duration::from_millis(50));
                if stream.write_all(b" ").is_err() {
                    return;
                }
            }
        });
        assert!(left(&slow, 2000).contains("too few"), "{}", left(&slow, 2000));
    }

    #[test]
    fn answers_that_are_not_what_they_say_are_refused() {
        let says = |head: &'static str, body: &'static [u8]| {
            refused(&server(move |_, stream| {
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            }))
        };
        let etag = "HTTP/1.1 206 P\r\netag: \"../../../owned\"\r\nx-repo-commit: abc\r\ncontent-range: bytes 0-1/2\r\nconnection: close\r\n\r\n";
        assert!(says(etag, b"{}").contains("which is none"));
        let commit = "HTTP/1.1 206 P\r\netag: \"e\"\r\nx-repo-commit: ../../x\r\ncontent-range: bytes 0-1/2\r\nconnection: close\r\n\r\n";
        assert!(says(commit, b"{}").contains("which is none"));
        let more = "HTTP/1.1 206 P\r\netag: \"e\"\r\nx-repo-commit: abc\r\ncontent-range: bytes 0-1/2\r\nconnection: close\r\n\r\n";
        assert!(says(more, b"").contains("ends after 0 of 2 bytes"));
        assert!(says(more, b"{}{}").contains("more than the 2 bytes"));
        assert!(says(more, b"{").contains("ends after 1 of 2 bytes"));
        let endless = "HTTP/1.1 206 P\r\netag: \"e\"\r\nx-repo-commit: abc\r\ncontent-range: bytes 0-1/99999999999\r\nconnection: close\r\n\r\n";
        assert!(says(endless, b"{}").contains("more than the"));
        let hash = "HTTP/1.1 206 P\r\netag: \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\r\nx-repo-commit: abc\r\n\
                    content-range: bytes 0-1/2\r\nconnection: close\r\n\r\n";
        assert!(says(hash, b"{}").contains("SHA-256"));
    }

    #[test]
    fn a_download_goes_on_where_it_broke_off_and_changed_bytes_are_seen() {
        let bytes = (0..40_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
        let hash = String::leak(hashes::hex(&<sha2::Sha256 as sha2::Digest>::digest(&bytes)));
        let cache = tempfile::tempdir().unwrap();
        let blobs = cache.path().join("models--owner--tiny/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{hash}.part")), &bytes[..70_000]).unwrap();
        let served = bytes.clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &vec![("big.safetensors", served.clone())], hash);
            }
        });
        let hub = hub(&address, cache.path());
        let repository = Repository::new(&hub, "owner/tiny", "main").unwrap();
        let path = repository.required("big.safetensors", u64::MAX).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert!(repository.cached("big.safetensors").unwrap().is_some());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let mut other = bytes;
        other[5] ^= 1;
        std::fs::write(&path, other).unwrap();
        assert!(matches!(repository.cached("big.safetensors"), Err(Error::Changed { .. })));
    }
}
