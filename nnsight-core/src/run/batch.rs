//! A batch of prompts: tokens, padding on the left, positions and the attention mask.

use std::cell::OnceCell;

use candle_core::{DType, Device, Tensor};

use crate::Result;

/// Prompts side by side, the shorter ones padded on the left, so that every prompt's last token stands at the end.
pub struct TokenBatch {
    lengths: Vec<usize>,
    width: usize,
    tokens: Tensor,
    positions: Option<Tensor>,
    mask: OnceCell<Option<Tensor>>,
    /// Whether the model's head is asked for the last position only.
    pub last_only: bool,
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
        Ok(TokenBatch { lengths, width, tokens, positions, mask: OnceCell::new(), last_only: false })
    }

    /// The token ids.
    ///
    /// # Shapes
    /// `(Batch, Seq)`
    pub fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// The number of positions, padding included.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of tokens of each prompt.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The position of every token in its own prompt, where that is not just its place in the batch.
    ///
    /// # Shapes
    /// `(Batch, Seq)`
    pub fn positions(&self) -> Option<&Tensor> {
        self.positions.as_ref()
    }

    /// What to add to the attention scores: 0 where a position may look, a large negative number where it may not. `None` where every
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

    fn make_mask(&self, dtype: DType) -> Result<Option<Tensor>> {
        if self.width <= 1 {
            return Ok(None);
        }
        let hidden = match dtype {
            DType::F16 => -65504.0,
            _ => f32::MIN,
        };
        let rows = if self.positions.is_some() { self.lengths.len() } else { 1 };
        let mut mask = Vec::with_capacity(rows * self.width * self.width);
        for &length in &self.lengths[..rows] {
            let padding = self.width - length;
            for query in 0..self.width {
                // A padded position looks at itself only: it needs something to look at, and nobody looks at it.
                mask.extend(
                    (0..self.width).map(|key| if key == query || key <= query && key >= padding && query >= padding { 0f32 } else { hidden }),
                );
            }
        }
        let mask = Tensor::from_vec(mask, (rows, 1, self.width, self.width), self.tokens.device())?;
        Ok(Some(mask.to_dtype(dtype)?))
    }
}
