//! The inputs of a graph as tokens.

use candle_core::{DType, Device};
use nnsight_core::batch::AnyBatch;
use nnsight_core::graph::{Graph, Rollout, Span};
use nnsight_core::run::{FirstPass, InputId, Inputs, Stepper, Write};
use nnsight_core::sites::SiteTable;
use nnsight_core::{Error, Result};
use nnsight_kernels::Extent;

use crate::continuation::Continuation;
use crate::{Generation, Prompt, PromptProblem, TokenBatch, Vocabulary};

/// The inputs of a graph as tokens.
pub struct TokenInputs<'a> {
    graph: &'a Graph,
    /// The token ids of every prompt of every invoke.
    tokens: Vec<Vec<Vec<u32>>>,
    lengths: Vec<Vec<usize>>,
    vocabulary: &'a dyn Vocabulary,
    /// The site at which embeddings come out.
    embedding: Option<usize>,
}

impl<'a> TokenInputs<'a> {
    /// The inputs of a graph whose prompts have these tokens: a list for every prompt of every invoke, and none for an invoke that sees those of others.
    pub fn new(graph: &'a Graph, tokens: Vec<Vec<Vec<u32>>>, vocabulary: &'a dyn Vocabulary, table: &SiteTable) -> Self {
        let lengths = tokens.iter().map(|prompts| prompts.iter().map(Vec::len).collect()).collect();
        TokenInputs { graph, tokens, lengths, vocabulary, embedding: table.embedding() }
    }

    fn tokens(&self, input: InputId) -> &[u32] {
        self.tokens.get(input.invoke).and_then(|prompts| prompts.get(input.input)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The prompts side by side.
    fn side_by_side(&self, inputs: &[InputId], device: &Device) -> Result<TokenBatch> {
        let prompts = inputs.iter().map(|&input| self.tokens(input)).collect::<Vec<_>>();
        let mut batch = TokenBatch::new(&prompts, device)?;
        for (row, &input) in inputs.iter().enumerate() {
            if let Some(Prompt::Masked { seen, .. }) = self.prompt(input) {
                batch = batch.hiding(row, &seen)?;
            }
        }
        Ok(batch)
    }

    fn prompt(&self, input: InputId) -> Option<Prompt> {
        let content = self.graph.invokes.get(input.invoke)?.inputs.get(input.input)?;
        // Most are texts or tokens, about which nothing else is asked.
        content.part("seen").or(content.part("embeddings"))?;
        Prompt::of(content)
    }
}

impl Inputs for TokenInputs<'_> {
    fn lengths(&self) -> &[Vec<usize>] {
        &self.lengths
    }

    fn batch(&self, inputs: &[InputId], device: &Device, dtype: DType) -> Result<FirstPass> {
        let batch = self.side_by_side(inputs, device)?;
        let mut writes = Vec::new();
        for (row, &input) in inputs.iter().enumerate() {
            let (Some(Prompt::Embeddings(constant)), Some(site)) = (self.prompt(input), self.embedding) else { continue };
            let value = constant.tensor.to_device(device)?.to_dtype(dtype)?;
            // In 16 bits, numbers become infinite that were not.
            if let Some(number) = nnsight_core::graph::not_finite(&value)? {
                return Err(Error::input(PromptProblem::NotFinite { number, invoke: input.invoke, prompt: input.input }));
            }
            let length = self.tokens(input).len();
            let rows = Extent { axis: 0, span: Span { start: row, len: 1 } };
            let positions = Extent { axis: 1, span: Span { start: batch.width() - length, len: length } };
            writes.push(Write { site, part: vec![rows, positions], value });
        }
        Ok(FirstPass { batch: Box::new(batch), writes })
    }

    fn branch(&self, inputs: &[InputId], from: usize, device: &Device) -> Result<Box<dyn AnyBatch>> {
        let prompts = inputs.iter().map(|&input| self.tokens(input)).collect::<Vec<_>>();
        Ok(Box::new(TokenBatch::behind(&prompts, from, device)?))
    }

    fn rollout(&self, rollout: &Rollout, inputs: &[InputId], device: &Device) -> Result<Box<dyn Stepper + '_>> {
        let rows = inputs.iter().map(|&input| (input, self.tokens(input))).collect::<Vec<_>>();
        let batch = self.side_by_side(inputs, device)?;
        Ok(Box::new(Continuation::new(Generation::of(rollout)?, self.vocabulary, &rows, batch)))
    }
}
