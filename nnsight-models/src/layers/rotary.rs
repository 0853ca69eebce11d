//! Rotary position embedding (Su et al. 2021), with the scaling of Llama 3.1.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use candle_core::{DType, Device, Tensor};
use nnsight_core::Result;
use nnsight_kernels::{is_half, rotate};
use nnsight_lm::HeadDim;

use crate::Result as Loaded;
use crate::config::Scaling;
use crate::loading::Loader;

/// A rotary embedding as a config describes it. Its tables are computed once, and shared by all layers.
#[derive(Clone, Debug)]
pub struct Rope {
    theta: f64,
    scaling: Scaling,
    context: usize,
    /// How many channels of a head are turned, if not all.
    channels: Option<usize>,
    tables: OnceLock<Arc<Rotary>>,
}

impl Rope {
    /// With the base `theta`, for prompts of up to `context` tokens.
    pub fn new(theta: f64, scaling: Scaling, context: usize) -> Self {
        Rope { theta, scaling, context, channels: None, tables: OnceLock::new() }
    }

    /// Of the first so many channels of a head, of which the others are left as they are.
    #[must_use]
    pub fn partial(self, channels: usize) -> Self {
        Rope { channels: Some(channels), ..self }
    }

    /// The embedding, for a layer that is being read.
    ///
    /// # Errors
    /// If the device fails.
    pub fn rotary<F>(&self, loader: &mut Loader<'_, F>) -> Loaded<Arc<Rotary>> {
        if let Some(rotary) = self.tables.get() {
            return Ok(Arc::clone(rotary));
        }
        let channels = self.channels.map_or_else(|| loader.size::<HeadDim>(), Ok)?;
        let weights = loader.weights();
        let rotary = Rotary::new(channels, self.theta, &self.scaling, self.context, weights.dtype(), weights.device())?;
        Ok(Arc::clone(self.tables.get_or_init(|| Arc::new(rotary))))
    }
}

/// Positions whose cosines and sines are computed when a model is loaded, if its context is longer than this.
const AT_LOAD: usize = 16_384;

/// Cosines and sines, for as many positions as runs have needed; for a model of 16 bits in `f32`.
pub struct Rotary {
    /// `(1, HeadDim / 2)`
    frequencies: Tensor,
    context: usize,
    dtype: DType,
    tables: RwLock<Tables>,
}

impl std::fmt::Debug for Rotary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotary").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Of the positions `0..`.
#[derive(Clone)]
struct Tables {
    /// `(positions, HeadDim / 2)`
    cos: Tensor,
    /// `(positions, HeadDim / 2)`
    sin: Tensor,
}

impl Tables {
    fn new(frequencies: &Tensor, positions: usize, dtype: DType) -> candle_core::Result<Self> {
        let positions = Tensor::arange(0u32, positions as u32, frequencies.device())?.to_dtype(DType::F32)?.unsqueeze(1)?;
        let angles = positions.matmul(frequencies)?;
        Ok(Tables { cos: angles.cos()?.to_dtype(dtype)?, sin: angles.sin()?.to_dtype(dtype)? })
    }

    fn positions(&self) -> candle_core::Result<usize> {
        self.cos.dim(0)
    }
}

impl Rotary {
    /// For the first `head_dim` channels of heads, and prompts of up to `context` tokens.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(head_dim: usize, theta: f64, scaling: &Scaling, context: usize, dtype: DType, device: &Device) -> candle_core::Result<Self> {
        let frequencies = (0..head_dim / 2).map(|pair| (pair, 1.0 / theta.powf(2.0 * pair as f64 / head_dim as f64)));
        let frequencies = frequencies.map(|(pair, frequency)| scaling.apply(pair, frequency) as f32).collect::<Vec<_>>();
        let frequencies = Tensor::new(frequencies, device)?.unsqueeze(0)?;
        let dtype = if is_half(dtype) { DType::F32 } else { dtype };
        let tables = RwLock::new(Tables::new(&frequencies, context.min(AT_LOAD), dtype)?);
        Ok(Rotary { frequencies, context, dtype, tables })
    }

    /// Tables that reach as far as a run needs: `width` positions, or those that are given.
    fn tables(&self, width: usize, positions: Option<&Tensor>) -> candle_core::Result<Tables> {
        // Nothing panics while it holds the lock but candle, and then the tables are as they were.
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner).clone();
        let there = tables.positions()?;
        if there == self.context {
            return Ok(tables);
        }
        let needed = match positions {
            None => width,
            Some(positions) => positions.flatten_all()?.to_dtype(DType::U32)?.max(0)?.to_scalar::<u32>()? as usize + 1,
        };
        // Positions that the context does not have are refused when they are looked up.
        if needed <= there || needed > self.context {
            return Ok(tables);
        }
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.positions()? < needed {
            let positions = needed.checked_next_power_of_two().unwrap_or(needed).min(self.context);
            *tables = Tables::new(&self.frequencies, positions, self.dtype)?;
        }
        Ok(tables.clone())
    }

    /// Turns queries or keys by their positions, which are `0..` where none are given.
    ///
    /// # Shapes
    /// `x`: `(Batch, Heads, Seq, HeadDim)`, `positions`: `(Batch, Seq)`
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn apply(&self, x: &Tensor, positions: Option<&Tensor>) -> Result<Tensor> {
        let turn = |table: &Tensor| match positions {
            None => table.narrow(0, 0, x.dim(2)?),
            Some(positions) => {
                let (rows, width) = positions.dims2()?;
                table.index_select(&positions.flatten_all()?, 0)?.reshape((rows, width, table.dim(1)?))
            }
        };
        let Tables { cos, sin } = self.tables(x.dim(2)?, positions)?;
        let turned = 2 * cos.dim(1)?;
        match x.dim(3)?.checked_sub(turned) {
            None | Some(0) => Ok(rotate(x, &turn(&cos)?, &turn(&sin)?)?),
            Some(rest) => Ok(Tensor::cat(&[rotate(&x.narrow(3, 0, turned)?, &turn(&cos)?, &turn(&sin)?)?, x.narrow(3, turned, rest)?], 3)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_grow_with_the_run_and_no_further() {
        let context = 4 << 20;
        let rotary = Rotary::new(8, 10_000.0, &Scaling::Linear { factor: 2.0 }, context, DType::F32, &Device::Cpu).unwrap();
        let there = || rotary.tables.read().unwrap().positions().unwrap();
        let x = Tensor::randn(0f32, 1.0, (1, 1, 2, 8), &Device::Cpu).unwrap();
        let at = |first: u32| rotary.apply(&x, Some(&Tensor::new(&[[first, first + 1]], &Device::Cpu).unwrap())).unwrap();
        let start = at(0);
        assert_eq!(there(), AT_LOAD);
        assert_eq!(
            start.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            rotary.apply(&x, None).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
        at(AT_LOAD as u32 - 1);
        assert_eq!(there(), 2 * AT_LOAD);
        // As if the whole table had been there from the beginning.
        let short = Rotary::new(8, 10_000.0, &Scaling::Linear { factor: 2.0 }, AT_LOAD, DType::F32, &Device::Cpu).unwrap();
        let [long, short] = [&rotary, &short].map(|rotary| {
            let positions = Tensor::new(&[[9u32, 4000]], &Device::Cpu).unwrap();
            rotary.apply(&x, Some(&positions)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        });
        assert_eq!(long, short);
    }
}
