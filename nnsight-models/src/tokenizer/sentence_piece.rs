//! SentencePiece's BPE: of two neighbours, those are merged whose union has the best score.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{DecoderWrapper, SplitDelimiterBehavior};

use super::gguf::{GgufTokenizer, TokenKind, damaged};
use crate::error::NoTokenizer;

/// Puts the tokenizer together, but for its added tokens.
pub(super) fn build(file: &GgufTokenizer) -> Result<tokenizers::Tokenizer, NoTokenizer> {
    let prefix = file.add_space_prefix.unwrap_or(true);
    let own = file.of_kind(TokenKind::UserDefined).map(|(_, piece)| escaped(piece)).filter(|piece| !piece.is_empty()).collect::<Vec<_>>();
    let mut vocabulary = file.vocabulary();
    for (id, piece) in file.of_kind(TokenKind::UserDefined) {
        vocabulary.entry(escaped(piece)).or_insert(id);
    }
    let merges = if file.merges.is_empty() { by_score(file) } else { file.merges()? };
    let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).byte_fallback(true).fuse_unk(true);
    // A piece of the user's is a word by itself, and no merges lead to it.
    let bpe = bpe.ignore_merges(!own.is_empty());
    let bpe = match file.of_kind(TokenKind::Unknown).next() {
        Some((_, unknown)) => bpe.unk_token(unknown.to_string()),
        None => bpe,
    };
    let mut inner = tokenizers::Tokenizer::new(bpe.build().map_err(damaged)?);

    let mut normal: Vec<NormalizerWrapper> = Vec::new();
    if prefix {
        normal.push(Prepend::new("▁".to_string()).into());
    }
    normal.push(Replace::new(" ", "▁").map_err(damaged)?.into());
    inner.with_normalizer(Some(NormalizerSequence::new(normal))).map_err(damaged)?;
    if !own.is_empty() {
        let split = Split::new(SplitPattern::Regex(any_of(own)), SplitDelimiterBehavior::Isolated, false).map_err(damaged)?;
        inner.with_pre_tokenizer(Some(split));
    }

    let spaces = Replace::new("▁", " ").map_err(damaged)?;
    let mut decoders: Vec<DecoderWrapper> = vec![spaces.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    inner.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok(inner)
}

/// llama.cpp stores the spaces of some pieces as such; SentencePiece sees none.
fn escaped(piece: &str) -> String {
    piece.replace(' ', "▁")
}

/// A pattern for any of these texts, the longest first.
fn any_of(mut texts: Vec<String>) -> String {
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join("|")
}

/// A pattern for a text, in which no character has a meaning of its own.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// The merges by score: every way to make a piece of two others, the best piece first. Only normal pieces are merged.
fn by_score(file: &GgufTokenizer) -> Vec<(String, String)> {
    let normal = file.of_kind(TokenKind::Normal).map(|(id, piece)| (piece, id)).collect::<std::collections::HashMap<_, _>>();
    let mut merges = Vec::new();
    for (&whole, &id) in &normal {
        let score = file.scores.get(id as usize).copied().unwrap_or(0.0);
        for (cut, _) in whole.char_indices().skip(1) {
            let (left, right) = whole.split_at(cut);
            if normal.contains_key(left) && normal.contains_key(right) {
                merges.push((score, id, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    merges.into_iter().map(|(.., left, right)| (left.to_string(), right.to_string())).collect()
}
