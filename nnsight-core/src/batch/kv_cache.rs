//! The KV cache.

use std::collections::HashMap;

use candle_core::{Result, Tensor};

use crate::graph::Span;

/// The keys and values of earlier positions, by the module that keeps them. They are those that the model went on with, edits included.
#[derive(Debug, Default)]
pub struct KvCache {
    kept: HashMap<usize, (Tensor, Tensor)>,
    /// Whether they are those of another run, which every run begins with and none adds to.
    is_borrowed: bool,
}

/// As [`KvCache`].
#[deprecated(since = "0.2.0", note = "renamed to `KvCache`")]
pub type Past = KvCache;

impl KvCache {
    /// Puts the keys and values of this pass behind those of `past` earlier positions, and keeps all of them.
    ///
    /// # Shapes
    /// `(Batch, KvHeads, Seq, HeadDim)` each.
    ///
    /// # Errors
    /// Where those of earlier positions are missing.
    pub fn extend(&mut self, module: usize, past: usize, keys: Tensor, values: Tensor) -> Result<(Tensor, Tensor)> {
        let all = match self.kept.get(&module) {
            Some((k, v)) if self.is_borrowed => {
                let (rows, (own, heads, past, dim)) = (keys.dim(0)?, k.dims4()?);
                let repeat = |x: &Tensor| match own {
                    1 => x.expand((rows, heads, past, dim)),
                    _ => x.repeat((rows / own, 1, 1, 1)),
                };
                return Ok((Tensor::cat(&[&repeat(k)?, &keys], 2)?, Tensor::cat(&[&repeat(v)?, &values], 2)?));
            }
            None if past == 0 => (keys, values),
            Some((k, v)) if k.dim(2)? == past => (Tensor::cat(&[k, &keys], 2)?, Tensor::cat(&[v, &values], 2)?),
            _ => candle_core::bail!("this attention has no keys and values of earlier positions: it was not run for them"),
        };
        self.kept.insert(module, all.clone());
        Ok(all)
    }

    /// The keys and values of the first `positions` positions of some rows, behind their padding, for runs that branch off there.
    ///
    /// # Errors
    /// Where there are not so many.
    pub(crate) fn branch(&self, rows: Span, padding: usize, positions: usize) -> Result<Self> {
        let part = |x: &Tensor| x.narrow(0, rows.start, rows.len)?.narrow(2, padding, positions);
        let kept = self.kept.iter().map(|(&module, (k, v))| Ok((module, (part(k)?, part(v)?))));
        Ok(KvCache { kept: kept.collect::<Result<_>>()?, is_borrowed: true })
    }
}
