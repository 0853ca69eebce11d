//! What the attention keeps of earlier positions.

use std::collections::HashMap;

use candle_core::{Result, Tensor};

/// The keys and values of earlier positions, by the module that keeps them. They are those that the model went on with, edits included.
#[derive(Debug, Default)]
pub struct Past {
    kept: HashMap<usize, (Tensor, Tensor)>,
}

impl Past {
    /// Puts the keys and values of this pass behind those of `past` earlier positions, and keeps all of them.
    ///
    /// # Shapes
    /// `(Batch, KvHeads, Seq, HeadDim)` each.
    ///
    /// # Errors
    /// Where those of earlier positions are missing.
    pub fn extend(&mut self, module: usize, past: usize, keys: Tensor, values: Tensor) -> Result<(Tensor, Tensor)> {
        let all = match self.kept.get(&module) {
            None if past == 0 => (keys, values),
            Some((k, v)) if k.dim(2)? == past => (Tensor::cat(&[k, &keys], 2)?, Tensor::cat(&[v, &values], 2)?),
            _ => candle_core::bail!("this attention has no keys and values of earlier positions: it was not run for them"),
        };
        self.kept.insert(module, all.clone());
        Ok(all)
    }
}
