//! The tokenizer as users have it.

use std::path::Path;

use candle_core::{D, DType};
use nnsight_core::types::Tensor;
use nnsight_lm::Chat;
use tokenizers::AddedToken;

use super::ChatTemplates;
use crate::error::at;
use crate::token_ids::{LogitsShape, TokenIds, TokenRows};
use crate::{Error, Result};

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    chat: ChatTemplates,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer(error.to_string())
}

impl Tokenizer {
    /// From its parts. Texts keep their length, whatever the file says: it may hold the truncation and padding of its training, which
    /// transformers does not apply either.
    pub(crate) fn new(mut inner: tokenizers::Tokenizer, chat: ChatTemplates) -> Result<Self> {
        inner.with_truncation(None).map_err(failed)?;
        inner.with_padding(None);
        Ok(Tokenizer { inner, chat })
    }

    /// As a `tokenizer.json`.
    pub(crate) fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(failed)
    }

    /// The most bytes of text that one token stands for.
    pub(crate) fn longest(&self) -> usize {
        self.inner.get_vocab(true).keys().map(String::len).max().unwrap_or(1)
    }

    /// With tokens that the file lacks; those that it has stay as they are.
    pub(crate) fn with_added(mut self, tokens: Vec<AddedToken>) -> Result<Self> {
        let missing = tokens.into_iter().filter(|token| self.inner.token_to_id(&token.content).is_none()).collect::<Vec<_>>();
        self.inner.add_tokens(missing).map_err(failed)?;
        Ok(self)
    }

    /// Writes a `tokenizer.json`, and beside it a `tokenizer_config.json` with the chat templates.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] or [`Error::File`] if one of them cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.inner.save(path, false).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        let Some(config) = self.chat.to_config() else { return Ok(()) };
        let path = path.with_file_name("tokenizer_config.json");
        std::fs::write(&path, config.to_string()).map_err(at(&path))
    }

    /// The token ids of a text, with the special tokens that the model wants around it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode(text, true).map_err(failed)?.get_ids().to_vec())
    }

    /// The token ids of a text alone: `add_special_tokens=False`. Special tokens that are written in the text are still found.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_without_special_tokens(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode(text, false).map_err(failed)?.get_ids().to_vec())
    }

    /// The text of a conversation in the form of the checkpoint's chat template: `apply_chat_template(tokenize=False)`.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`] if the checkpoint has none, [`Error::ChatTemplate`] if it refuses the conversation or is wrong.
    ///
    /// # Examples
    /// ```no_run
    /// use nnsight_lm::{Chat, Message};
    /// use nnsight_models::{Llama, SmolLm2_135M, Source};
    /// let model = Llama::<SmolLm2_135M>::load(Source::default())?;
    /// let chat = Chat::new([Message::user("What is the capital of France?")]);
    /// assert!(model.tokenizer().chat_text(&chat)?.ends_with("<|im_start|>assistant\n"));
    /// # Ok::<(), nnsight_models::Error>(())
    /// ```
    pub fn chat_text(&self, chat: &Chat) -> Result<String> {
        self.chat.render(chat)
    }

    /// The token ids of a conversation: `apply_chat_template(tokenize=True)`. The template itself writes the special tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::chat_text`] and [`Tokenizer::encode`].
    pub fn encode_chat(&self, chat: &Chat) -> Result<Vec<u32>> {
        self.encode_without_special_tokens(&self.chat_text(chat)?)
    }

    /// The text of token ids: a list of them, or what a trace gave back for one prompt. Special tokens are part of it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where it fails, [`Error::SeveralTexts`] if there are several prompts.
    ///
    /// # Examples
    /// ```no_run
    /// use nnsight_core::types::{Batch, Int, Tensor};
    /// use nnsight_lm::Seq;
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

    /// The texts of some rows of token ids, as `model.tokens()` returns them, each as long as it is. Special tokens, such as those that end a
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
    /// [`Error::NotOneToken`] if it is not.
    pub fn token(&self, text: &str) -> Result<u32> {
        match self.encode_without_special_tokens(text)?.as_slice() {
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
