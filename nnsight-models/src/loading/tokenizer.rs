//! A tokenizer from its files.

use std::panic::Location;
use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;

use super::gguf;
use crate::error::at;
use crate::tokenizer::{ChatTemplates, Tokenizer};
use crate::{Error, Result};

/// The special tokens that a `tokenizer_config.json` names.
const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Tokenizer {
    /// Reads a `tokenizer.json`, with the chat templates and added tokens of the `tokenizer_config.json`, `chat_template.jinja` and
    /// `additional_chat_templates` beside it; or the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Loading`] with [`Error::Tokenizer`], [`Error::File`] or [`Error::Format`] if a file cannot be read or is damaged, [`Error::NoTokenizer`] if a GGUF
    /// file has none that is known.
    #[track_caller]
    pub fn from_file(path: &Path) -> Result<Self> {
        let place = Location::caller();
        Self::read(path).map_err(|error| error.of_loading_at(place))
    }

    /// As [`Tokenizer::from_file`], for a model that is loaded: the line is that of the program which loads it.
    pub(super) fn read(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            return gguf::tokenizer(path);
        }
        let failed = |error| Error::Tokenizer(format!("{}: {error}", path.display()));
        let inner = tokenizers::Tokenizer::from_file(path).map_err(failed)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let config = read_json(&folder.join("tokenizer_config.json"))?;
        let map = read_json(&folder.join("special_tokens_map.json"))?;
        let special = SPECIAL.iter().filter_map(|name| Some((*name, added_token(&config[*name]).or_else(|| added_token(&map[*name]))?)));
        let special = special.collect::<Vec<_>>();
        let templates = chat_templates(folder, &config)?;
        let names = special.iter().map(|(name, token)| (name.to_string(), token.content.clone())).collect();
        let added = config["added_tokens_decoder"].as_object().into_iter().flatten();
        let mut added = added.filter_map(|(id, token)| Some((id.parse::<u32>().ok()?, added_token(token)?))).collect::<Vec<_>>();
        added.sort_by_key(|(id, _)| *id);
        let added = added.into_iter().map(|(_, token)| token).chain(special.into_iter().map(|(_, token)| AddedToken { special: true, ..token }));
        Tokenizer::new(inner, ChatTemplates::new(templates, names))?.with_added(added.collect())
    }
}

/// A JSON file; null if there is none.
fn read_json(path: &Path) -> Result<Value> {
    match read(path)? {
        Some(text) => {
            let damaged = |error: serde_json::Error| Error::Format { path: path.to_path_buf(), format: "JSON", problem: error.to_string() };
            serde_json::from_str(&text).map_err(damaged)
        }
        None => Ok(Value::Null),
    }
}

/// A text file, if there is one.
fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// A token as `tokenizer_config.json` writes it: its text, or an object with it.
fn added_token(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(content) => Some(AddedToken::from(content.clone(), true)),
        _ => {
            let flag = |name: &str| value[name].as_bool().unwrap_or(false);
            let special = flag("special");
            let token = AddedToken::from(value["content"].as_str()?.to_string(), special);
            let token = token.single_word(flag("single_word")).lstrip(flag("lstrip")).rstrip(flag("rstrip"));
            Some(token.normalized(value["normalized"].as_bool().unwrap_or(!special)))
        }
    }
}

/// The chat templates by name. A file of its own comes before what the config says.
fn chat_templates(folder: &Path, config: &Value) -> Result<Vec<(String, String)>> {
    let mut templates = match &config["chat_template"] {
        Value::String(template) => vec![("default".to_string(), template.clone())],
        Value::Array(several) => {
            let one = |value: &Value| Some((value["name"].as_str()?.to_string(), value["template"].as_str()?.to_string()));
            several.iter().filter_map(one).collect()
        }
        _ => Vec::new(),
    };
    let mut put = |name: String, template: String| {
        templates.retain(|(taken, _)| *taken != name);
        templates.push((name, template));
    };
    if let Some(template) = read(&folder.join("chat_template.jinja"))? {
        put("default".to_string(), template);
    }
    let further = folder.join("additional_chat_templates");
    if further.is_dir() {
        let mut files = Vec::new();
        for file in std::fs::read_dir(&further).map_err(at(&further))? {
            files.push(file.map_err(at(&further))?.path());
        }
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "jinja")) {
            if let (Some(name), Some(template)) = (file.file_stem().and_then(|name| name.to_str()), read(file)?) {
                put(name.to_string(), template);
            }
        }
    }
    Ok(templates)
}
