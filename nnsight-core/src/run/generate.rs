//! Continuing prompts, token by token.

use candle_core::{DType, Tensor};

use super::sample::Sampler;
use crate::Result;
use crate::graph::Generation;
use crate::observer::Token;

/// What generation needs to know of a vocabulary.
pub trait Vocabulary {
    /// The tokens that end a text, as the checkpoint names them.
    fn eos_token_ids(&self) -> &[u32];
    /// The text of some tokens, in which stop strings are looked for.
    ///
    /// # Errors
    /// Where there is no tokenizer.
    fn decode(&self, tokens: &[u32]) -> Result<String>;
}

/// For each prompt of an invoke the step with which its text ended, if it did.
pub(super) type Ended = Vec<Option<u32>>;

/// Continues the prompts of a batch.
pub(super) struct Generator<'a> {
    settings: &'a Generation,
    vocabulary: &'a dyn Vocabulary,
    /// The tokens that end a text.
    ends: Vec<u32>,
    rows: Vec<Row>,
}

/// One prompt and what follows it.
struct Row {
    invoke: usize,
    prompt: usize,
    tokens: Vec<u32>,
    /// How many of the tokens are the prompt's own.
    given: usize,
    sampler: Sampler,
    /// The step with which its text ended.
    ended: Option<u32>,
}

impl<'a> Generator<'a> {
    /// For rows of `(invoke, prompt, tokens)`.
    pub fn new<'r>(settings: &'a Generation, vocabulary: &'a dyn Vocabulary, rows: impl Iterator<Item = (usize, usize, &'r [u32])>) -> Self {
        let ends = vocabulary.eos_token_ids().iter().chain(&settings.stop_tokens).copied().collect();
        let row = |(invoke, prompt, tokens): (usize, usize, &[u32])| Row {
            invoke,
            prompt,
            tokens: tokens.to_vec(),
            given: tokens.len(),
            sampler: Sampler::new(settings, prompt),
            ended: None,
        };
        Generator { settings, vocabulary, ends, rows: rows.map(row).collect() }
    }

    /// Ends the texts of an invoke with a step.
    pub fn end(&mut self, invoke: usize, step: u32) {
        self.rows.iter_mut().filter(|row| row.invoke == invoke).for_each(|row| row.ended = row.ended.or(Some(step)));
    }

    /// Whether all texts have ended.
    pub fn is_done(&self) -> bool {
        self.rows.iter().all(|row| row.ended.is_some())
    }

    /// Chooses a token for each row from the logits at its last position; gives what the model reads next.
    ///
    /// # Shapes
    /// `(Batch, Vocab)`
    pub fn choose(&mut self, logits: &Tensor, step: usize, on_token: &mut Option<&mut dyn FnMut(Token)>) -> Result<Vec<u32>> {
        let logits = logits.detach().to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for (row, logits) in self.rows.iter_mut().zip(logits) {
            if row.ended.is_some() {
                continue;
            }
            let id = row.sampler.choose(self.settings, logits, &row.tokens, step, &self.ends);
            row.tokens.push(id);
            if let Some(on_token) = on_token {
                on_token(Token { invoke: row.invoke, prompt: row.prompt, step, id });
            }
            let ends = self.ends.contains(&id) || ends_with_stop(row, &self.settings.stop_strings, self.vocabulary)?;
            row.ended = ends.then_some(step as u32);
        }
        // A prompt whose text has ended goes on with its last token; nobody looks at what becomes of it.
        Ok(self.rows.iter().map(|row| row.tokens.last().copied().unwrap_or(0)).collect())
    }

    /// The new tokens of each prompt of an invoke.
    pub fn tokens(&self, invoke: usize) -> Vec<Vec<u32>> {
        let rows = self.rows.iter().filter(|row| row.invoke == invoke);
        rows.map(|row| row.tokens[row.given..].to_vec()).collect()
    }

    /// The steps with which the texts of an invoke ended.
    pub fn ended(&self, invoke: usize) -> Ended {
        self.rows.iter().filter(|row| row.invoke == invoke).map(|row| row.ended).collect()
    }

    /// The steps with which all texts ended.
    pub fn all_ended(&self) -> Ended {
        self.rows.iter().map(|row| row.ended).collect()
    }

    /// The new tokens of all prompts.
    pub fn all_tokens(&self) -> Vec<Vec<u32>> {
        self.rows.iter().map(|row| row.tokens[row.given..].to_vec()).collect()
    }
}

/// Whether the generated text contains a stop string.
fn ends_with_stop(row: &Row, stops: &[String], vocabulary: &dyn Vocabulary) -> Result<bool> {
    if stops.is_empty() {
        return Ok(false);
    }
    let text = vocabulary.decode(&row.tokens[row.given..])?;
    Ok(stops.iter().any(|stop| text.contains(stop.as_str())))
}
