//! Tokenizers against Hugging Face's, on texts of all scripts; `tests/reference/make_tokenizers.py` wrote what is expected.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use nnsight::models::Tokenizer;
use nnsight::prelude::*;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::shared::folder;

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    tokenizers: HashMap<String, Ids>,
}

#[derive(Deserialize)]
struct Ids {
    with: Vec<Vec<u32>>,
    without: Vec<Vec<u32>>,
    /// What the ids without special tokens are decoded to, if that is not the text.
    decoded: Vec<Option<String>>,
}

fn reference(file: &str) -> PathBuf {
    folder("tests/reference/tokenizers").join(file)
}

fn read<T: for<'de> Deserialize<'de>>(file: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(reference(file)).unwrap()).unwrap()
}

/// Compares a tokenizer with what is expected under a name.
fn compare(tokenizer: &Tokenizer, name: &str) {
    let expected: Expected = read("expected.json");
    let ids = &expected.tokenizers[name];
    for (index, text) in expected.texts.iter().enumerate() {
        assert_eq!(tokenizer.encode(text).unwrap(), ids.with[index], "{name}: {text:?}");
        let found = tokenizer.encode_without_special_tokens(text).unwrap();
        assert_eq!(found, ids.without[index], "{name}: {text:?} without special tokens");
        assert_eq!(tokenizer.decode(&found).unwrap(), *ids.decoded[index].as_ref().unwrap_or(text), "{name}: {text:?} decoded");
    }
}

fn json_file(name: &str) -> Tokenizer {
    Tokenizer::from_file(&reference(name).join("tokenizer.json")).unwrap()
}

fn gguf_file(name: &str) -> Tokenizer {
    Tokenizer::from_file(&reference(&format!("{name}.gguf"))).unwrap()
}

#[test]
fn tokenizer_files_have_the_ids_of_transformers() {
    for name in ["gpt2", "smollm", "llama3", "qwen2", "tekken", "gpt4o"] {
        compare(&json_file(name), name);
    }
}

#[test]
fn added_tokens_of_every_kind_are_found() {
    compare(&json_file("added"), "added");
}

#[test]
fn byte_level_tokenizers_of_gguf_files_are_the_originals() {
    for name in ["gpt2", "smollm", "llama3", "llama3_no_bos", "qwen2", "tekken", "gpt4o"] {
        compare(&gguf_file(name), name);
    }
}

#[test]
fn sentence_piece_tokenizers_of_gguf_files_are_the_originals() {
    for name in ["spm", "spm_no_prefix"] {
        compare(&gguf_file(name), name);
    }
}

#[test]
fn truncation_and_padding_of_a_file_are_not_applied() {
    let mut json: Json = read("llama3/tokenizer.json");
    json["truncation"] = json!({ "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 });
    json["padding"] = json!({
        "strategy": { "Fixed": 16 }, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, json.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(&file).unwrap();
    compare(&tokenizer, "llama3");
    // And neither is what is saved.
    tokenizer.save(&file).unwrap();
    compare(&Tokenizer::from_file(&file).unwrap(), "llama3");
}

#[test]
fn what_is_saved_of_a_gguf_file_is_its_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let file: &Path = &folder.path().join("tokenizer.json");
    for name in ["gpt2", "llama3", "qwen2", "spm", "spm_no_prefix"] {
        gguf_file(name).save(file).unwrap();
        compare(&Tokenizer::from_file(file).unwrap(), name);
    }
}

#[derive(Deserialize)]
struct Chats {
    templates: HashMap<String, Json>,
    /// Messages, and further variables of the template.
    conversations: Vec<(Vec<Json>, Json)>,
    chats: Vec<Expectation>,
}

#[derive(Deserialize)]
struct Expectation {
    template: String,
    conversation: usize,
    end: ChatEnd,
    text: Option<String>,
    ids: Option<Vec<u32>>,
    error: Option<String>,
}

/// The tokenizer like Llama 3's, with a chat template of its own.
fn with_template(template: &Json) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::copy(reference("llama3/tokenizer.json"), &file).unwrap();
    let config = json!({ "bos_token": "[BOS]", "eos_token": { "content": "<|end|>", "special": true }, "chat_template": template });
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::from_file(&file).unwrap()
}

fn message(json: &Json) -> Message {
    let content = json["content"].as_str();
    let mut message = Message::new(json["role"].as_str().unwrap(), content.unwrap_or_default());
    for (name, value) in json.as_object().unwrap().iter().filter(|(name, _)| *name != "role" && (*name != "content" || content.is_none())) {
        message = message.with(name, value);
    }
    message
}

#[test]
fn conversations_are_written_as_apply_chat_template_writes_them() {
    let Chats { templates, conversations, chats } = read("chats.json");
    for Expectation { template, conversation, end, text, ids, error } in &chats {
        let tokenizer = with_template(&templates[template]);
        let (messages, variables) = &conversations[*conversation];
        let mut chat = Chat::new(messages.iter().map(message)).ending(*end);
        for (name, value) in variables.as_object().unwrap() {
            chat = chat.with(name, value);
        }
        let what = format!("{template}, conversation {conversation}, {end:?}");
        match (tokenizer.chat_text(&chat), text, error) {
            (Ok(found), Some(text), None) => {
                assert_eq!(found, *text, "{what}");
                let found = tokenizer.encode_chat(&chat).unwrap();
                assert_eq!(found, *ids.as_ref().unwrap_or(&tokenizer.encode_without_special_tokens(text).unwrap()), "{what}");
            }
            (Err(found), None, Some(error)) => {
                let found = found.to_string();
                assert!(found.contains("chat template cannot write the conversation"), "{what}: {found}");
                assert!(!error.starts_with("Conversation roles") || found.contains(error.as_str()), "{what}: {found}");
                assert!(!error.starts_with("continue_final_message") || found.contains("cannot be continued"), "{what}: {found}");
            }
            (found, text, error) => panic!("{what}: {found:?} and not {text:?} {error:?}"),
        }
    }
}
