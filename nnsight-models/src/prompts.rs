//! Prompts as token ids, held against what a model can read.

use nnsight_core::graph::{Graph, Input, Source, not_finite, printable};
use nnsight_core::{Error as E, Result};
use nnsight_lm::{Generation, Prompt, PromptProblem, Sizes};

use crate::tokenizer::Tokenizer;

/// Bytes of a token of which no text is short: the longest token is looked for only beyond.
const USUAL: usize = 32;

/// What reads prompts: with or without weights, the same are refused.
pub(crate) struct Reader<'a> {
    /// The model's signature.
    pub model: &'a str,
    pub sizes: &'a Sizes,
    pub tokenizer: Option<&'a Tokenizer>,
    /// Whether the model continues prompts.
    pub generates: bool,
}

impl Reader<'_> {
    /// The token ids of every prompt of a graph that was validated; `None` for a text without a tokenizer.
    pub fn graph(&self, graph: &Graph) -> Result<Vec<Vec<Option<Vec<u32>>>>> {
        let invokes = graph.invokes.iter().enumerate().map(|(index, invoke)| {
            let source = || invoke.source.clone();
            if invoke.rollout.is_some() && !self.generates {
                let problem = format!("`{}` is an encoder, which generates no tokens; read its hidden states in a run without steps", self.model);
                return Err(E::Rollout { problem, source_line: None }.or_at(source()));
            }
            let settings = invoke.rollout.as_ref().map(Generation::of).transpose().map_err(|error| error.or_at(source()))?;
            let later = settings.map_or(0, |settings| settings.max_new_tokens.saturating_sub(1));
            let read = |(prompt, input): (usize, &Input)| {
                let found = || input.parts().map(|(name, _)| printable(name)).collect::<Vec<_>>().join(", ");
                Prompt::of(input).ok_or_else(|| E::input(PromptProblem::NotAPrompt { invoke: index, prompt, found: found() }).or_at(source()))
            };
            let prompts = invoke.inputs.iter().enumerate().map(read).collect::<Result<Vec<_>>>()?;
            self.invoke(index, &prompts, later, &invoke.source)
        });
        invokes.collect()
    }

    /// The token ids of an invoke's prompts, which are followed by `later` more; what is wrong with one is said of the line that gave them.
    pub fn invoke(&self, invoke: usize, prompts: &[Prompt], later: usize, source: &Option<Source>) -> Result<Vec<Option<Vec<u32>>>> {
        prompts
            .iter()
            .enumerate()
            .map(|(prompt, content)| self.prompt((invoke, prompt), content, later).map_err(|error| error.or_at(source.clone())))
            .collect()
    }

    fn prompt(&self, (invoke, prompt): (usize, usize), content: &Prompt, later: usize) -> Result<Option<Vec<u32>>> {
        let tokens = match content {
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Masked { tokens, seen } if tokens.len() == seen.len() => tokens.clone(),
            Prompt::Masked { tokens, seen } => {
                return Err(E::input(PromptProblem::Mask { invoke, prompt, tokens: tokens.len(), mask: seen.len() }));
            }
            // Embeddings stand in for those of any tokens.
            Prompt::Embeddings(constant) => match constant.tensor.dims() {
                [length, hidden] if *hidden == self.sizes.hidden => {
                    if let Some(number) = not_finite(&constant.tensor)? {
                        return Err(E::input(PromptProblem::NotFinite { number, invoke, prompt }));
                    }
                    self.check_length((invoke, prompt), *length, later)?;
                    vec![0; *length]
                }
                found => {
                    return Err(E::TensorShape {
                        expected: format!("(Seq, Hidden = {})", self.sizes.hidden),
                        found: found.to_vec(),
                        source_line: None,
                    });
                }
            },
            Prompt::Chat(chat) => match self.tokenizer {
                Some(tokenizer) => {
                    let said = chat.messages.iter().map(|message| message.content.len()).fold(0, usize::saturating_add);
                    self.check_text((invoke, prompt), said, tokenizer)?;
                    tokenizer.encode_chat(chat).map_err(E::model)?
                }
                None => return Ok(None),
            },
            Prompt::Text(text) => match self.tokenizer {
                Some(tokenizer) => {
                    self.check_text((invoke, prompt), text.len(), tokenizer)?;
                    tokenizer.encode(text).map_err(E::model)?
                }
                None => return Ok(None),
            },
        };
        self.check_length((invoke, prompt), tokens.len(), later)?;
        match tokens.iter().find(|&&token| token as usize >= self.sizes.vocab) {
            Some(&token) => {
                Err(E::input(PromptProblem::UnknownToken { token, invoke, prompt, vocab: self.sizes.vocab, model: self.model.to_string() }))
            }
            None => Ok(Some(tokens)),
        }
    }

    /// Refuses a text that has too many tokens however long those are, before it is split into them.
    fn check_text(&self, (invoke, prompt): (usize, usize), bytes: usize, tokenizer: &Tokenizer) -> Result<()> {
        if bytes <= self.sizes.context.saturating_mul(USUAL) {
            return Ok(());
        }
        self.check_length((invoke, prompt), bytes.div_ceil(tokenizer.longest().max(1)), 0)
    }

    fn check_length(&self, (invoke, prompt): (usize, usize), length: usize, later: usize) -> Result<()> {
        let found = length.saturating_add(later);
        match length {
            0 => Err(E::input(PromptProblem::Empty { invoke, prompt })),
            _ if found > self.sizes.context => {
                Err(E::input(PromptProblem::TooLong { invoke, prompt, found, limit: self.sizes.context, model: self.model.to_string() }))
            }
            _ => Ok(()),
        }
    }
}

/// The numbers of tokens, as far as they are known.
pub(crate) fn lengths(tokens: &[Vec<Option<Vec<u32>>>]) -> Vec<Vec<Option<usize>>> {
    tokens.iter().map(|prompts| prompts.iter().map(|tokens| tokens.as_ref().map(Vec::len)).collect()).collect()
}
