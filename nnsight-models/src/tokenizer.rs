//! Text to token ids and back.

use std::path::Path;

use ahash::AHashMap;
use candle_core::{D, DType};
use nnsight_core::types::Tensor;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::token_ids::{LogitsShape, TokenIds, TokenRows};
use crate::{Error, Result};

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer(error.to_string())
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where it is not one.
    pub fn from_file(path: &Path) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_file(path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        Ok(Tokenizer { inner })
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.inner.save(path, false).map_err(|error| failed(format!("{}: {error}", path.display())))
    }

    /// The token ids of a text, with the special tokens that the model wants around it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where it fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode(text, true).map_err(failed)?.get_ids().to_vec())
    }

    /// The text of token ids: a list of them, or what a trace gave back for one prompt. Special tokens are part of it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where it fails, [`Error::SeveralTexts`] if there are several prompts.
    ///
    /// # Examples
    /// ```no_run
    /// use nnsight_core::types::{Batch, Int, Seq, Tensor};
    /// use nnsight_models::{Llama, SmolLm2_135M, Source};
    /// let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    /// # let tokens: Tensor<SmolLm2_135M, (Batch, Seq), Int> = unimplemented!();
    /// println!("{}", model.tokenizer().decode(&[464, 314])?);
    /// // let tokens = generate!(model, prompts, { model.tokens() })?;
    /// println!("{}", model.tokenizer().decode(&tokens.at(Batch, 0))?);
    /// println!("{:?}", model.tokenizer().decode_rows(&tokens)?);
    /// # Ok::<(), nnsight_models::Error>(())
    /// ```
    pub fn decode(&self, tokens: &(impl TokenIds + ?Sized)) -> Result<String> {
        self.text(&tokens.ids()?, false)
    }

    /// The texts of some rows of token ids, as `model.tokens()` gives them, each as long as it is. Special tokens, such as those that end a
    /// text, are left out.
    ///
    /// # Shapes
    /// `(Batch, Seq)`, or one token for each of `(Batch,)` or `(Ranked,)`
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where it fails.
    pub fn decode_rows(&self, tokens: &(impl TokenRows + ?Sized)) -> Result<Vec<String>> {
        tokens.id_rows()?.iter().map(|row| self.text(row, true)).collect()
    }

    fn text(&self, tokens: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(tokens, skip_special).map_err(failed)
    }

    /// The id of a text that is one token, such as `" Paris"`.
    ///
    /// # Errors
    /// [`Error::NotOneToken`] where it is not.
    pub fn token(&self, text: &str) -> Result<u32> {
        match self.inner.encode(text, false).map_err(failed)?.get_ids() {
            [token] => Ok(*token),
            tokens => Err(Error::NotOneToken { text: text.to_string(), count: tokens.len() }),
        }
    }

    /// The `k` tokens with the largest logits, best first.
    ///
    /// # Shapes
    /// `(Vocab,)`, or `(Batch, Vocab)` of one prompt.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where a token has no text, [`Error::SeveralTexts`] if there are several prompts.
    pub fn top<C, S: LogitsShape>(&self, logits: &Tensor<C, S>, k: usize) -> Result<Vec<(String, f32)>> {
        let entries = logits.whole()?;
        let rows = entries.elem_count() / entries.dim(D::Minus1)?.max(1);
        if rows != 1 {
            return Err(Error::SeveralTexts { count: rows });
        }
        let logits = entries.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let mut order = (0..logits.len() as u32).collect::<Vec<_>>();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        order.truncate(k);
        order.into_iter().map(|token| Ok((self.text(&[token], false)?, logits[token as usize]))).collect()
    }

    /// The `k` tokens with the largest logits as one line: `" Paris" 13.686, " Rome" 10.829`.
    ///
    /// # Shapes
    /// As [`Tokenizer::top`].
    ///
    /// # Errors
    /// As [`Tokenizer::top`].
    pub fn decode_top<C, S: LogitsShape>(&self, logits: &Tensor<C, S>, k: usize) -> Result<String> {
        let top = self.top(logits, k)?;
        Ok(top.iter().map(|(token, logit)| format!("{token:?} {logit:.3}")).collect::<Vec<_>>().join(", "))
    }
}

/// What a GGUF file says of its tokenizer.
pub(crate) struct GgufTokenizer {
    /// `gpt2` for byte-level BPE, `llama` for SentencePiece.
    pub model: String,
    /// How text is split before BPE.
    pub pre: String,
    pub tokens: Vec<String>,
    /// 3 for control tokens, 4 for those that users have added.
    pub kinds: Vec<i32>,
    pub scores: Vec<f32>,
    pub merges: Vec<String>,
    /// What stands before every text.
    pub bos: Option<u32>,
    pub add_space_prefix: bool,
}

impl GgufTokenizer {
    /// Puts the tokenizer together.
    pub fn build(self) -> Result<Tokenizer> {
        let mut inner = match self.model.as_str() {
            "gpt2" => self.byte_level()?,
            "llama" => self.sentence_piece()?,
            other => {
                return Err(failed(format!(
                    "a GGUF tokenizer of the kind `{other}` is not known; put a `tokenizer.json` beside safetensors instead"
                )));
            }
        };
        let special = self.tokens.iter().zip(&self.kinds).filter(|(_, kind)| matches!(kind, 3 | 4));
        let special = special.map(|(token, kind)| AddedToken::from(token.clone(), *kind == 3)).collect::<Vec<_>>();
        inner.add_tokens(special).map_err(failed)?;
        if let Some(bos) = self.bos {
            let token = self.tokens.get(bos as usize).ok_or_else(|| failed("its first token lies outside of the vocabulary"))?;
            let mut template = TemplateProcessing::builder();
            template.try_single(format!("{token} $A")).map_err(failed)?.special_tokens(vec![(token.clone(), bos)]);
            let template = template.build().map_err(failed)?;
            inner.with_post_processor(Some(template));
        }
        Ok(Tokenizer { inner })
    }

    fn vocabulary(&self) -> AHashMap<String, u32> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect()
    }

    fn byte_level(&self) -> Result<tokenizers::Tokenizer> {
        let merges = self.merges.iter().map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_string(), b.to_string())));
        let merges = merges.collect::<Option<Vec<_>>>().ok_or_else(|| failed("one of its merges is not a pair"))?;
        let bpe = BPE::builder().vocab_and_merges(self.vocabulary(), merges).build().map_err(failed)?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        let split: Vec<PreTokenizerWrapper> = match self.pre.as_str() {
            "smollm" => vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()],
            "llama-bpe" | "llama3" | "llama-v3" => {
                let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
                let split = Split::new(SplitPattern::Regex(words.to_string()), SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
                vec![split.into(), ByteLevel::new(false, true, false).into()]
            }
            "" | "default" | "gpt-2" | "gpt2" => vec![ByteLevel::new(false, true, true).into()],
            other => {
                return Err(failed(format!("the way `{other}` of splitting text is not known; put a `tokenizer.json` beside safetensors instead")));
            }
        };
        inner.with_pre_tokenizer(Some(Sequence::new(split)));
        inner.with_decoder(Some(ByteLevelDecoder::default()));
        Ok(inner)
    }

    /// SentencePiece's BPE: of two neighbours, those are merged whose union has the best score.
    fn sentence_piece(&self) -> Result<tokenizers::Tokenizer> {
        use tokenizers::decoders::byte_fallback::ByteFallback;
        use tokenizers::decoders::fuse::Fuse;
        use tokenizers::decoders::sequence::Sequence as DecoderSequence;
        use tokenizers::decoders::strip::Strip;
        use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as NormalizerSequence};

        let ids = self.vocabulary();
        let mut merges = Vec::new();
        for (whole, id) in &ids {
            let score = self.scores.get(*id as usize).copied().unwrap_or(0.0);
            for (cut, _) in whole.char_indices().skip(1) {
                let (left, right) = whole.split_at(cut);
                if let (Some(a), Some(b)) = (ids.get(left), ids.get(right)) {
                    merges.push((score, *a, *b, left.to_string(), right.to_string()));
                }
            }
        }
        merges.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
        let merges = merges.into_iter().map(|(.., left, right)| (left, right)).collect();
        let unknown = self.kinds.iter().position(|&kind| kind == 2).and_then(|id| self.tokens.get(id).cloned());
        let mut builder = BPE::builder().vocab_and_merges(ids, merges).byte_fallback(true).fuse_unk(true);
        if let Some(unknown) = unknown {
            builder = builder.unk_token(unknown);
        }
        let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(failed)?);
        let mut normal: Vec<NormalizerWrapper> = Vec::new();
        if self.add_space_prefix {
            normal.push(Prepend::new("▁".to_string()).into());
        }
        normal.push(Replace::new(" ", "▁").map_err(failed)?.into());
        inner.with_normalizer(Some(NormalizerSequence::new(normal))).map_err(failed)?;
        let spaces = Replace::new("▁", " ").map_err(failed)?;
        let strip = usize::from(self.add_space_prefix);
        inner.with_decoder(Some(DecoderSequence::new(vec![
            spaces.into(),
            ByteFallback::new().into(),
            Fuse::new().into(),
            Strip::new(' ', strip, 0).into(),
        ])));
        Ok(inner)
    }
}
