//! The Hugging Face hub, through its own client and cache.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};

use crate::error::at;
use crate::{Error, Result};

fn api() -> Result<Api, ApiError> {
    ApiBuilder::from_env().with_retries(1).build()
}

fn not_found(name: &str) -> impl Fn(ApiError) -> Error + '_ {
    move |error| Error::NotFound { name: name.to_string(), reasons: vec![format!("from the hub: {error}")] }
}

/// Brings a repository's config, tokenizer and weights into the hub's cache; gives the folder there.
pub fn folder(repository: &str) -> Result<PathBuf> {
    bring(&api().map_err(not_found(repository))?, repository)
}

fn bring(api: &Api, repository: &str) -> Result<PathBuf> {
    let repo = api.model(repository.to_string());
    let config = repo.get("config.json").map_err(not_found(repository))?;
    // Not every repository has a tokenizer of this form; who needs one is told when it is used.
    let _ = repo.get("tokenizer.json");
    match repo.get("model.safetensors.index.json") {
        Ok(index) => {
            let text = std::fs::read_to_string(&index).map_err(at(&index))?;
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let mut files =
                json["weight_map"].as_object().into_iter().flat_map(|map| map.values()).filter_map(|file| file.as_str()).collect::<Vec<_>>();
            files.sort_unstable();
            files.dedup();
            for file in files {
                repo.get(file).map_err(not_found(repository))?;
            }
        }
        Err(_) => drop(repo.get("model.safetensors").map_err(not_found(repository))?),
    }
    Ok(config.parent().unwrap_or(Path::new(".")).to_path_buf())
}

/// Brings one file of a repository to a path.
pub fn file(repository: &str, name: &str, target: &Path) -> Result<()> {
    let cached = api().map_err(not_found(repository))?.model(repository.to_string()).get(name).map_err(not_found(repository))?;
    std::fs::copy(&cached, target).map(drop).map_err(at(target))
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

    /// Serves the files; gives the address and the number of requests so far.
    fn serve(files: Files) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = answer(stream, &files);
            }
        });
        (address, requests)
    }

    fn answer(mut stream: TcpStream, files: &Files) -> std::io::Result<()> {
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
        let end = end.map_or(bytes.len(), |end| end + 1).min(bytes.len());
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\netag: \"{name}\"\r\nx-repo-commit: abc\r\ncontent-range: bytes {start}-{}/{}\r\ncontent-length: {}\r\n\
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

    fn client(address: &str, cache: &Path) -> Api {
        ApiBuilder::new().with_endpoint(address.to_string()).with_cache_dir(cache.to_path_buf()).with_progress(false).build().unwrap()
    }

    #[test]
    fn a_repository_is_brought_once_and_can_be_loaded() {
        let (address, requests) = serve(vec![("config.json", reference("config.json")), ("model.safetensors", reference("model.safetensors"))]);
        let cache = tempfile::tempdir().unwrap();
        let api = client(&address, cache.path());
        let folder = bring(&api, "owner/tiny").unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), reference("model.safetensors"));
        let model = crate::Llama::<nnsight_core::types::Dynamic>::load(folder.as_path()).unwrap();
        assert_eq!(model.depth(), 3);
        // What is there is not fetched again; what the repository lacks is asked for again.
        let before = requests.load(Ordering::SeqCst);
        bring(&api, "owner/tiny").unwrap();
        assert_eq!(requests.load(Ordering::SeqCst) - before, 2);
    }

    #[test]
    fn what_is_missing_is_named() {
        let (address, _) = serve(vec![("config.json", reference("config.json"))]);
        let cache = tempfile::tempdir().unwrap();
        let message = bring(&client(&address, cache.path()), "owner/tiny").unwrap_err().to_string();
        assert!(message.contains("owner/tiny") && message.contains("404"), "{message}");
        let message = bring(&client("http://127.0.0.1:1", cache.path()), "owner/other").unwrap_err().to_string();
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
        let folder = bring(&client(&address, cache.path()), "owner/tiny").unwrap();
        assert_eq!(std::fs::read(folder.join("two.safetensors")).unwrap(), b"2");
    }
}
