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
    let repo = api().map_err(not_found(repository))?.model(repository.to_string());
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
