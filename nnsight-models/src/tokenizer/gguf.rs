//! A tokenizer from what a GGUF file says of it.

use std::collections::HashMap;

use ahash::AHashMap;
use candle_core::quantized::gguf_file::Value;
use serde_json::json;
use tokenizers::AddedToken;
use tokenizers::processors::template::TemplateProcessing;

use super::{ChatTemplates, Tokenizer, byte_level, sentence_piece};
use crate::error::NoTokenizer;

/// The special tokens that chat templates name, and what GGUF calls their ids.
const SPECIAL: [(&str, &str); 7] = [
    ("bos_token", "bos_token_id"),
    ("eos_token", "eos_token_id"),
    ("unk_token", "unknown_token_id"),
    ("sep_token", "seperator_token_id"),
    ("pad_token", "padding_token_id"),
    ("cls_token", "cls_token_id"),
    ("mask_token", "mask_token_id"),
];

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    /// What text becomes that no token covers.
    Unknown,
    /// One that steers the model, and is found in text as a whole.
    Control,
    /// One that was added, and is found in text as a whole.
    UserDefined,
    Unused,
    /// A byte of text that no other token covers.
    Byte,
}

/// What a GGUF file says of its tokenizer.
pub(crate) struct GgufTokenizer {
    model: Model,
    /// How text is split before BPE.
    pub(super) pre: String,
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    pub(super) scores: Vec<f32>,
    pub(super) merges: Vec<String>,
    /// What comes before every text.
    bos: Option<u32>,
    /// What comes after every text.
    eos: Option<u32>,
    /// Whether a text gets a space before it, if the file says.
    pub(super) add_space_prefix: Option<bool>,
    chat: ChatTemplates,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    ByteLevel,
    SentencePiece,
}

pub(super) fn damaged(problem: impl std::fmt::Display) -> NoTokenizer {
    NoTokenizer::Damaged { problem: problem.to_string() }
}

/// The metadata of a tokenizer.
struct Metadata<'a>(&'a HashMap<String, Value>);

impl<'a> Metadata<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(&format!("tokenizer.{key}"))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    fn id(&self, key: &str) -> Option<u32> {
        integer(self.get(key)?).and_then(|id| u32::try_from(id).ok())
    }

    /// A list, of which every entry is what it should be. A list that is missing is empty.
    fn list<T>(&self, key: &str, entry: impl Fn(&'a Value) -> Option<T>) -> Result<Vec<T>, NoTokenizer> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(entries)) => {
                let wrong = || damaged(format!("an entry of `tokenizer.{key}` is not what it should be"));
                entries.iter().map(|value| entry(value).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(damaged(format!("`tokenizer.{key}` is not a list"))),
        }
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::U8(number) => Some(i64::from(*number)),
        Value::I8(number) => Some(i64::from(*number)),
        Value::U16(number) => Some(i64::from(*number)),
        Value::I16(number) => Some(i64::from(*number)),
        Value::U32(number) => Some(i64::from(*number)),
        Value::I32(number) => Some(i64::from(*number)),
        Value::U64(number) => i64::try_from(*number).ok(),
        Value::I64(number) => Some(*number),
        Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn score(value: &Value) -> Option<f32> {
    match value {
        Value::F32(score) => Some(*score),
        Value::F64(score) => Some(*score as f32),
        other => integer(other).map(|score| score as f32),
    }
}

fn token_kind(value: &Value) -> Option<TokenKind> {
    Some(match integer(value)? {
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => TokenKind::Normal,
    })
}

impl GgufTokenizer {
    /// Reads what a file's metadata says.
    pub fn read(metadata: &HashMap<String, Value>) -> Result<Self, NoTokenizer> {
        let metadata = Metadata(metadata);
        let model = match metadata.text("ggml.model") {
            None | Some("none" | "no_vocab") => return Err(NoTokenizer::Missing),
            Some("gpt2") => Model::ByteLevel,
            Some("llama") => Model::SentencePiece,
            Some(other) => return Err(NoTokenizer::Model { name: other.to_string() }),
        };
        let pre = metadata.text("ggml.pre").unwrap_or_default().to_string();
        let tokens = metadata.list("ggml.tokens", |token| text(token).map(str::to_string))?;
        let kinds = metadata.list("ggml.token_type", token_kind)?;
        if !kinds.is_empty() && kinds.len() != tokens.len() {
            return Err(damaged(format!("it has {} tokens and {} kinds of tokens", tokens.len(), kinds.len())));
        }
        let (add_bos, bos_by_default) = match model {
            Model::ByteLevel => (byte_level::kind(&pre)?.add_bos, None),
            Model::SentencePiece => (true, Some(1)),
        };
        let around = |flag: &str, default: bool, key: &str, id: Option<u32>| match metadata.flag(flag).unwrap_or(default) {
            false => Ok(None),
            true => match metadata.id(key).or(id) {
                Some(id) if (id as usize) < tokens.len() => Ok(Some(id)),
                Some(id) => Err(damaged(format!("`tokenizer.{key}` is {id}, and there are {} tokens", tokens.len()))),
                None => Err(damaged(format!("it has no `tokenizer.{key}`, which every text is to have"))),
            },
        };
        let find = |text: &str| tokens.iter().position(|token| token == text).map(|id| id as u32);
        let bos = around("ggml.add_bos_token", add_bos, "ggml.bos_token_id", bos_by_default.or_else(|| find("<|begin_of_text|>")))?;
        let eos = around("ggml.add_eos_token", false, "ggml.eos_token_id", None)?;
        let special = SPECIAL.iter().filter_map(|(name, key)| {
            let id = metadata.id(&format!("ggml.{key}"))?;
            Some((name.to_string(), tokens.get(id as usize)?.clone()))
        });
        let special = special.collect();
        Ok(GgufTokenizer {
            model,
            pre,
            kinds,
            scores: metadata.list("ggml.scores", score)?,
            merges: metadata.list("ggml.merges", |merge| text(merge).map(str::to_string))?,
            bos,
            eos,
            add_space_prefix: metadata.flag("ggml.add_space_prefix"),
            chat: ChatTemplates::new(chat_templates(&metadata)?, special),
            tokens,
        })
    }

    /// Puts the tokenizer together.
    pub fn build(self) -> Result<Tokenizer, NoTokenizer> {
        let mut inner = match self.model {
            Model::ByteLevel => byte_level::build(&self)?,
            Model::SentencePiece => sentence_piece::build(&self)?,
        };
        let mut added = Vec::new();
        for kind in [TokenKind::Unknown, TokenKind::Control] {
            added.extend(self.of_kind(kind).map(|(_, token)| AddedToken::from(token, true).normalized(false)));
        }
        // SentencePiece finds the user's pieces itself.
        if self.model == Model::ByteLevel {
            added.extend(self.of_kind(TokenKind::UserDefined).map(|(_, token)| AddedToken::from(token, false).normalized(false)));
        }
        inner.add_tokens(added).map_err(damaged)?;
        if self.bos.is_some() || self.eos.is_some() {
            inner.with_post_processor(Some(self.around()?));
        }
        Tokenizer::new(inner, self.chat).map_err(damaged)
    }

    /// What puts the special tokens around a text.
    fn around(&self) -> Result<TemplateProcessing, NoTokenizer> {
        let token = |id: u32| self.tokens.get(id as usize);
        let (bos, eos) = (self.bos.and_then(token), self.eos.and_then(token));
        let special = |token: Option<&String>, sequence: usize| token.map(|token| json!({ "SpecialToken": { "id": token, "type_id": sequence } }));
        let one = |name: &str, sequence: usize| {
            let text = json!({ "Sequence": { "id": name, "type_id": sequence } });
            special(bos, sequence).into_iter().chain([text]).chain(special(eos, sequence)).collect::<Vec<_>>()
        };
        let ids = [(bos, self.bos), (eos, self.eos)].into_iter().filter_map(|(token, id)| Some((token?.clone(), id?)));
        let ids = ids.map(|(token, id)| (token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] })));
        let pair = [one("A", 0), one("B", 1)].concat();
        let template = json!({
            "type": "TemplateProcessing",
            "single": one("A", 0),
            "pair": pair,
            "special_tokens": ids.collect::<serde_json::Map<_, _>>(),
        });
        serde_json::from_value(template).map_err(damaged)
    }

    pub(super) fn vocabulary(&self) -> AHashMap<String, u32> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect()
    }

    /// The pairs that are merged, the first before all others.
    pub(super) fn merges(&self) -> Result<Vec<(String, String)>, NoTokenizer> {
        let pair = |merge: &String| match merge.split_once(' ') {
            Some((left, right)) => Ok((left.to_string(), right.to_string())),
            None => Err(damaged(format!("its merge {merge:?} is not a pair"))),
        };
        self.merges.iter().map(pair).collect()
    }

    /// The tokens of a kind, with their ids. Without kinds, all are normal.
    pub(super) fn of_kind(&self, kind: TokenKind) -> impl Iterator<Item = (u32, &str)> {
        let tokens = self.tokens.iter().enumerate();
        tokens.filter(move |(id, _)| self.kinds.get(*id).copied().unwrap_or(TokenKind::Normal) == kind).map(|(id, token)| (id as u32, token.as_str()))
    }
}

/// The chat templates by name: `tokenizer.chat_template`, and the others that `tokenizer.chat_templates` lists.
fn chat_templates(metadata: &Metadata) -> Result<Vec<(String, String)>, NoTokenizer> {
    let default = metadata.text("chat_template").map(|template| ("default".to_string(), template.to_string()));
    let names = metadata.list("chat_templates", text)?;
    let others = names.into_iter().filter(|name| *name != "default").filter_map(|name| {
        let template = metadata.text(&format!("chat_template.{name}"))?;
        Some((name.to_string(), template.to_string()))
    });
    Ok(default.into_iter().chain(others).collect())
}
