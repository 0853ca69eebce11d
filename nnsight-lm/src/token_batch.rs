//! A batch of prompts: tokens, padding on the left, positions and the attention mask.

use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use nnsight_core::Result;
use nnsight_core::batch::AnyBatch;
use nnsight_kernels::largest;

/// Prompts side by side, the shorter ones padded on the left, so that every prompt's last token stands at the end. A batch may continue an
/// earlier one, whose keys and values the attention has kept.
#[derive(Clone)]
pub struct TokenBatch {
    /// The tokens of each prompt, those of earlier passes included.
    lengths: Vec<usize>,
    /// How many positions earlier passes had, padding included.
    past: usize,
    width: usize,
    tokens: Tensor,
    positions: Option<Tensor>,
    /// Tokens that no other position may look at: row, and position in the prompt.
    hidden: Vec<(usize, usize)>,
    mask: OnceLock<Option<Tensor>>,
    padding_mask: OnceLock<Option<Tensor>>,
}

impl AnyBatch for TokenBatch {
    fn rows(&self) -> usize {
        self.lengths.len()
    }
    fn width(&self) -> usize {
        self.width
    }
}

impl TokenBatch {
    /// Puts prompts together.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(prompts: &[&[u32]], device: &Device) -> Result<Self> {
        let lengths = prompts.iter().map(|prompt| prompt.len()).collect::<Vec<_>>();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let padded = lengths.iter().any(|&length| length != width);
        let mut tokens = Vec::with_capacity(prompts.len() * width);
        let mut positions = Vec::with_capacity(prompts.len() * width);
        for prompt in prompts {
            let padding = width - prompt.len();
            tokens.extend(std::iter::repeat_n(0, padding));
            tokens.extend_from_slice(prompt);
            positions.extend(std::iter::repeat_n(0, padding));
            positions.extend(0..prompt.len() as u32);
        }
        let shape = (prompts.len(), width);
        let tokens = Tensor::from_vec(tokens, shape, device)?;
        let positions = padded.then(|| Tensor::from_vec(positions, shape, device)).transpose()?;
        Ok(TokenBatch { lengths, past: 0, width, tokens, positions, hidden: Vec::new(), mask: OnceLock::new(), padding_mask: OnceLock::new() })
    }

    /// Hides those tokens of a row from all other positions that are not `seen`, and counts the positions over the others.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn hiding(mut self, row: usize, seen: &[bool]) -> Result<Self> {
        if seen.iter().all(|&seen| seen) {
            return Ok(self);
        }
        self.hidden.extend(seen.iter().enumerate().filter(|(_, seen)| !**seen).map(|(position, _)| (row, position)));
        let mut positions = self.whole_positions()?.to_vec2::<u32>()?;
        if let Some(positions) = positions.get_mut(row) {
            let padding = positions.len().saturating_sub(seen.len());
            let mut next = 0;
            for (position, &seen) in positions[padding..].iter_mut().zip(seen) {
                *position = if seen { next } else { 0 };
                next += u32::from(seen);
            }
        }
        self.positions = Some(Tensor::new(positions, self.tokens.device())?);
        Ok(self)
    }

    /// The position of the token that comes next in a row: the number of its tokens that are seen.
    fn next_position(&self, row: usize) -> u32 {
        let hidden = self.hidden.iter().filter(|hidden| hidden.0 == row).count();
        self.lengths.get(row).map_or(0, |length| length.saturating_sub(hidden) as u32)
    }

    /// Prompts of which the first `past` positions are had already; of one length, where there are any such.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn behind(prompts: &[&[u32]], past: usize, device: &Device) -> Result<Self> {
        let rest = prompts.iter().map(|prompt| prompt.get(past..).unwrap_or_default()).collect::<Vec<_>>();
        let mut batch = TokenBatch::new(&rest, device)?;
        if past > 0 {
            let positions = Tensor::arange(past as u32, (past + batch.width) as u32, device)?;
            batch.positions = Some(positions.broadcast_as((prompts.len(), batch.width))?.contiguous()?);
            batch.lengths.iter_mut().for_each(|length| *length += past);
            batch.past = past;
        }
        Ok(batch)
    }

    /// One more token for each prompt, behind all that came before.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn next(&self, tokens: &[u32]) -> Result<Self> {
        let device = self.tokens.device();
        let shape = (tokens.len(), 1);
        let positions = (0..self.lengths.len()).map(|row| self.next_position(row)).collect::<Vec<_>>();
        Ok(TokenBatch {
            lengths: self.lengths.iter().map(|length| length + 1).collect(),
            past: self.past + self.width,
            width: 1,
            tokens: Tensor::from_slice(tokens, shape, device)?,
            positions: Some(Tensor::from_vec(positions, shape, device)?),
            hidden: self.hidden.clone(),
            mask: OnceLock::new(),
            padding_mask: OnceLock::new(),
        })
    }

    /// The token ids.
    ///
    /// # Shapes
    /// `(Batch, Seq)`
    pub fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// The number of positions of earlier passes, padding included.
    pub fn past(&self) -> usize {
        self.past
    }

    /// The number of tokens of each prompt, those of earlier passes included.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The position of every token among those of its own prompt that are seen, if that is not just its place in the batch.
    ///
    /// # Shapes
    /// `(Batch, Seq)`
    pub fn positions(&self) -> Option<&Tensor> {
        self.positions.as_ref()
    }

    /// Whether every position sees all that come before it: nothing is padded or hidden.
    pub fn is_causal(&self) -> bool {
        self.hidden.is_empty() && self.lengths.iter().all(|&length| length == self.past + self.width)
    }

    /// What to add to the attention scores: 0 where a position may look, the lowest finite number of the type where it may not. `None` where every
    /// position may look everywhere.
    ///
    /// # Shapes
    /// `(Batch or 1, 1, Query, Key)`
    ///
    /// # Errors
    /// Where the device fails.
    pub fn mask(&self, dtype: DType) -> Result<Option<&Tensor>> {
        if let Some(mask) = self.mask.get() {
            return Ok(mask.as_ref());
        }
        let mask = self.make_mask(dtype)?;
        Ok(self.mask.get_or_init(|| mask).as_ref())
    }

    /// [`TokenBatch::mask`] of a model whose positions see those after them too: padding and hidden tokens are hidden, and nothing else. `None` if
    /// there are none.
    ///
    /// # Shapes
    /// `(Batch, 1, Query, Key)`
    ///
    /// # Errors
    /// If the device fails.
    pub fn padding_mask(&self, dtype: DType) -> Result<Option<&Tensor>> {
        if let Some(mask) = self.padding_mask.get() {
            return Ok(mask.as_ref());
        }
        let mask = self.make_padding_mask(dtype)?;
        Ok(self.padding_mask.get_or_init(|| mask).as_ref())
    }

    /// [`TokenBatch::mask`] with a row for every prompt, also where all are alike or every position may look everywhere.
    ///
    /// # Shapes
    /// `(Batch, Query, Key)`
    ///
    /// # Errors
    /// Where the device fails.
    pub fn whole_mask(&self, dtype: DType) -> Result<Tensor> {
        let shape = (self.lengths.len(), self.width, self.past + self.width);
        match self.mask(dtype)? {
            Some(mask) => Ok(mask.squeeze(1)?.broadcast_as(shape)?.contiguous()?),
            None => Ok(Tensor::zeros(shape, dtype, self.tokens.device())?),
        }
    }

    /// [`TokenBatch::positions`], also where they are just the places in the batch.
    ///
    /// # Shapes
    /// `(Batch, Seq)`
    ///
    /// # Errors
    /// Where the device fails.
    pub fn whole_positions(&self) -> Result<Tensor> {
        match &self.positions {
            Some(positions) => Ok(positions.clone()),
            None => {
                let positions = Tensor::arange(0u32, self.width as u32, self.tokens.device())?;
                Ok(positions.broadcast_as((self.lengths.len(), self.width))?.contiguous()?)
            }
        }
    }

    /// For each row and position of the keys whether it is a token that others may look at.
    fn seen(&self, row: usize, length: usize) -> Vec<bool> {
        let keys = self.past + self.width;
        let padding = keys - length;
        let mut seen = (0..keys).map(|key| key >= padding).collect::<Vec<_>>();
        self.hidden.iter().filter(|hidden| hidden.0 == row).for_each(|&(_, position)| seen[padding + position] = false);
        seen
    }

    fn make_padding_mask(&self, dtype: DType) -> Result<Option<Tensor>> {
        // Without padding and hidden tokens only later positions are left to hide.
        if self.is_causal() {
            return Ok(None);
        }
        let keys = self.past + self.width;
        let lowest = -largest(dtype) as f32;
        let mut mask = Vec::with_capacity(self.lengths.len() * self.width * keys);
        for (row, &length) in self.lengths.iter().enumerate() {
            let seen = self.seen(row, length);
            for query in self.past..keys {
                // As under the causal mask, a padded position looks at itself only.
                let is_own = query >= keys - length;
                mask.extend((0..keys).map(|key| if key == query || is_own && seen[key] { 0f32 } else { lowest }));
            }
        }
        let mask = Tensor::from_vec(mask, (self.lengths.len(), 1, self.width, keys), self.tokens.device())?;
        Ok(Some(mask.to_dtype(dtype)?))
    }

    fn make_mask(&self, dtype: DType) -> Result<Option<Tensor>> {
        let keys = self.past + self.width;
        let alike = self.is_causal();
        if self.width <= 1 && alike {
            return Ok(None);
        }
        let lowest = -largest(dtype) as f32;
        let rows = if alike { 1 } else { self.lengths.len() };
        let mut mask = Vec::with_capacity(rows * self.width * keys);
        for (row, &length) in self.lengths[..rows].iter().enumerate() {
            let padding = keys - length;
            let seen = self.seen(row, length);
            for query in self.past..keys {
                // A padded position looks at itself only: it needs something to look at, and nobody looks at it.
                mask.extend((0..keys).map(|key| if key == query || key < query && seen[key] && query >= padding { 0f32 } else { lowest }));
            }
        }
        let mask = Tensor::from_vec(mask, (rows, 1, self.width, keys), self.tokens.device())?;
        Ok(Some(mask.to_dtype(dtype)?))
    }
}
