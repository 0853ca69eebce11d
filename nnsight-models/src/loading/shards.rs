//! `model.safetensors.index.json`: which file has which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// The name of an index.
pub const INDEX: &str = "model.safetensors.index.json";

/// The files of an index, and which tensors each is to have. An index is written by whoever made the checkpoint: a name in it may be one of a
/// file of the same folder, and nothing else.
pub struct Index {
    pub files: BTreeSet<String>,
    pub tensors: BTreeMap<String, String>,
}

impl Index {
    /// Reads the text of an index.
    pub fn read(path: &Path, text: &str) -> Result<Self> {
        let damaged = |problem: String| Error::Format { path: path.to_path_buf(), format: "safetensors index", problem };
        let json: Value = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| damaged("it has no `weight_map`".into()))?;
        let mut tensors = BTreeMap::new();
        for (tensor, name) in map {
            let Some(name) = name.as_str().filter(|name| is_file_name(name) && name.ends_with(".safetensors")) else {
                return Err(damaged(format!("its `weight_map` names something other than files of the folder: {name}")));
            };
            tensors.insert(tensor.clone(), name.to_string());
        }
        Ok(Index { files: tensors.values().cloned().collect(), tensors })
    }
}

/// Whether a name is that of a file in the same folder, on every platform: no path, no drive, no stream, nothing hidden.
pub fn is_file_name(name: &str) -> bool {
    !name.starts_with('.') && !name.is_empty() && name.len() <= 255 && !name.chars().any(|c| c.is_control() || "/\\:*?\"<>|".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_folder_are_named() {
        let read = |name: &str| Index::read(Path::new("index"), &serde_json::json!({ "weight_map": { "a": name } }).to_string());
        assert!(read("model-00001-of-00002.safetensors").unwrap().files.contains("model-00001-of-00002.safetensors"));
        let elsewhere = ["/tmp/x", "../x", "..", ".", "", "a/b", "a\\b", "C:x", "\\\\host\\share", "x\0", ".ssh", "nul\n", "https://x"];
        for name in elsewhere.into_iter().flat_map(|name| [name.to_string(), format!("{name}.safetensors")]).chain(["config.json".into()]) {
            let plain = name == "..safetensors" || name == ".safetensors" || name == "...safetensors";
            let message = read(&name).err().unwrap_or_else(|| panic!("{name:?} is accepted")).to_string();
            assert!(plain || message.contains("other than files of the folder"), "{message}");
        }
    }
}
