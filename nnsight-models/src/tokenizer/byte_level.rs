//! Byte-level BPE, and how text is cut into words before it: as the `tokenizer.json` says of which llama.cpp has made a GGUF file.

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use super::gguf::{GgufTokenizer, damaged};
use crate::error::NoTokenizer;

/// A kind of byte-level tokenizer, of which many have the same.
pub(super) struct Kind {
    /// What `tokenizer.ggml.pre` calls it.
    names: &'static [&'static str],
    words: Words,
    /// Whether a word that is a token is one, even if no merges lead to it.
    ignore_merges: bool,
    /// Whether every text begins with a token of its own, unless the file says otherwise.
    pub add_bos: bool,
    /// Whether text is composed first: `e` and an accent to `é`.
    composes: bool,
}

/// How text is cut into words.
enum Words {
    /// As for GPT-2.
    Gpt2,
    /// Every digit by itself, and then as for GPT-2.
    Digits,
    /// By a pattern that matches words.
    Pattern(&'static str),
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: Kind = Kind { names: &["", "default", "gpt-2", "gpt2"], words: Words::Gpt2, ignore_merges: false, add_bos: false, composes: false };

/// The names are those that llama.cpp and transformers agree about, for models that this library can load.
const KINDS: &[Kind] = &[
    PLAIN,
    Kind { names: &["smollm", "starcoder", "refact"], words: Words::Digits, ..PLAIN },
    Kind {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
        words: Words::Pattern(LLAMA_3),
        ignore_merges: true,
        add_bos: true,
        composes: false,
    },
    Kind { names: &["dbrx", "smaug-bpe"], words: Words::Pattern(LLAMA_3), ..PLAIN },
    Kind { names: &["tekken"], words: Words::Pattern(TEKKEN), ignore_merges: true, add_bos: true, composes: false },
    Kind { names: &["qwen2", "deepseek-r1-qwen"], words: Words::Pattern(QWEN_2), composes: true, ..PLAIN },
    Kind { names: &["gpt-4o", "llama4"], words: Words::Pattern(GPT_4O), ..PLAIN },
];

/// The kind with a name.
pub(super) fn kind(name: &str) -> Result<&'static Kind, NoTokenizer> {
    KINDS.iter().find(|kind| kind.names.contains(&name)).ok_or_else(|| NoTokenizer::PreTokenizer { name: name.to_string() })
}

/// Puts the tokenizer together, but for its added tokens.
pub(super) fn build(file: &GgufTokenizer) -> Result<tokenizers::Tokenizer, NoTokenizer> {
    let kind = kind(&file.pre)?;
    let bpe = BPE::builder().vocab_and_merges(file.vocabulary(), file.merges()?).ignore_merges(kind.ignore_merges);
    let mut inner = tokenizers::Tokenizer::new(bpe.build().map_err(damaged)?);
    let words: Vec<PreTokenizerWrapper> = match kind.words {
        Words::Gpt2 => vec![ByteLevel::new(file.add_space_prefix.unwrap_or(false), true, true).into()],
        Words::Digits => vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()],
        Words::Pattern(pattern) => {
            let pattern = SplitPattern::Regex(pattern.to_string());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(damaged)?;
            vec![split.into(), ByteLevel::new(false, true, false).into()]
        }
    };
    inner.with_pre_tokenizer(Some(Sequence::new(words)));
    inner.with_decoder(Some(ByteLevelDecoder::default()));
    if kind.composes {
        inner.with_normalizer(Some(NFC)).map_err(damaged)?;
    }
    Ok(inner)
}
