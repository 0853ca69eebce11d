//! Continuing prompts, token by token.

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::batch::AnyBatch;
use nnsight_core::observer::{Emitted, EmittedValue};
use nnsight_core::run::{InputId, RolledOut, Stepper};

use crate::sampler::Sampler;
use crate::text::Text;
use crate::{Generation, TokenBatch, Vocabulary};

/// Continues the prompts of a batch.
pub(crate) struct Continuation<'a> {
    settings: Generation,
    vocabulary: &'a dyn Vocabulary,
    /// The tokens that end a text.
    ends: Vec<u32>,
    rows: Vec<Row>,
    /// What the last pass was given.
    batch: TokenBatch,
}

/// One prompt and what follows it.
struct Row {
    of: InputId,
    tokens: Vec<u32>,
    /// How many of the tokens are the prompt's own.
    given: usize,
    sampler: Sampler,
    /// The text of its new tokens, as far as stop strings are looked for.
    text: Text,
    /// The step with which its text ended.
    ended: Option<u32>,
}

impl<'a> Continuation<'a> {
    /// For prompts with these tokens, whose first pass is given `batch`.
    pub fn new(settings: Generation, vocabulary: &'a dyn Vocabulary, rows: &[(InputId, &[u32])], batch: TokenBatch) -> Self {
        let ends = vocabulary.eos_token_ids().iter().chain(&settings.stop_tokens).copied().collect();
        let row = |&(of, tokens): &(InputId, &[u32])| Row {
            of,
            tokens: tokens.to_vec(),
            given: tokens.len(),
            sampler: Sampler::new(&settings, of.input),
            text: Text::default(),
            ended: None,
        };
        Continuation { rows: rows.iter().map(row).collect(), settings, vocabulary, ends, batch }
    }

    /// Chooses a token for each row from the logits at its last position; returns what the model reads next.
    ///
    /// # Shapes
    /// `(Batch, Vocab)`
    fn choose(&mut self, logits: &Tensor, step: usize, told: &mut Option<&mut dyn FnMut(Emitted)>) -> Result<Vec<u32>> {
        let logits = logits.detach().to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for (row, logits) in self.rows.iter_mut().zip(logits) {
            if row.ended.is_some() {
                continue;
            }
            let id = row.sampler.choose(&self.settings, logits, &row.tokens, step, &self.ends);
            row.tokens.push(id);
            if let Some(told) = told {
                told(Emitted { invoke: row.of.invoke, input: row.of.input, step, value: EmittedValue::Id(id) });
            }
            let stops = &self.settings.stop_strings;
            let ends = self.ends.contains(&id) || row.text.reads_stop(&row.tokens[row.given..], stops, self.vocabulary)?;
            row.ended = ends.then_some(step as u32);
        }
        // A prompt whose text has ended goes on with its last token; nobody looks at what becomes of it.
        Ok(self.rows.iter().map(|row| row.tokens.last().copied().unwrap_or(0)).collect())
    }
}

impl Stepper for Continuation<'_> {
    fn end(&mut self, invoke: usize, step: u32) {
        self.rows.iter_mut().filter(|row| row.of.invoke == invoke).for_each(|row| row.ended = row.ended.or(Some(step)));
    }

    fn next(&mut self, output: &Tensor, step: usize, told: &mut Option<&mut dyn FnMut(Emitted)>) -> Result<Option<Box<dyn AnyBatch>>> {
        let last = output.narrow(1, output.dim(1)? - 1, 1)?.squeeze(1)?;
        let tokens = self.choose(&last, step, told)?;
        if self.rows.iter().all(|row| row.ended.is_some()) {
            return Ok(None);
        }
        self.batch = self.batch.next(&tokens)?;
        Ok(Some(Box::new(self.batch.clone())))
    }

    fn output(&self, invoke: Option<usize>) -> Result<RolledOut> {
        let rows = self.rows.iter().filter(|row| invoke.is_none_or(|invoke| row.of.invoke == invoke)).collect::<Vec<_>>();
        let new = |row: &Row| row.tokens.len() - row.given;
        let longest = rows.iter().map(|row| new(row)).max().unwrap_or(0);
        let padded = rows.iter().flat_map(|row| {
            let last = row.tokens.last().copied().unwrap_or(0);
            row.tokens[row.given..].iter().copied().chain(std::iter::repeat_n(last, longest - new(row))).map(i64::from)
        });
        let value = Tensor::from_vec(padded.collect::<Vec<_>>(), (rows.len(), longest), self.batch.tokens().device())?;
        let differ = rows.iter().any(|row| new(row) != longest);
        let lengths = differ.then(|| rows.iter().map(|row| new(row)).collect());
        Ok(RolledOut { value, lengths, ended: rows.iter().map(|row| row.ended).collect() })
    }
}
