//! Rotary position embedding (Su et al. 2021), with the scaling of Llama 3.1.

use candle_core::{D, DType, Device, Tensor};
use nnsight_core::Result;
use nnsight_core::kernels::{is_half, widen};

use super::cpu;

/// How the frequencies are stretched for contexts longer than the model was trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All by one factor.
    Linear {
        /// By how much.
        factor: f64,
    },
    /// The low ones by a factor, the high ones not, with a smooth passage (Llama 3.1).
    Llama3 {
        /// By how much.
        factor: f64,
        /// Below how many turns within the original context a frequency is low.
        low_freq_factor: f64,
        /// Above how many turns it is high.
        high_freq_factor: f64,
        /// The context that the model was first trained on.
        original_context: f64,
    },
    /// Each by a factor of its own, as GGUF files store it.
    Factors(Vec<f64>),
}

/// Cosines and sines for every position; for a model of 16 bits in `f32`.
pub struct Rotary {
    /// `(context, HeadDim / 2)`
    cos: Tensor,
    /// `(context, HeadDim / 2)`
    sin: Tensor,
}

impl Rotary {
    /// For heads of `head_dim` channels and prompts of up to `context` tokens.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(head_dim: usize, theta: f64, scaling: &Scaling, context: usize, dtype: DType, device: &Device) -> candle_core::Result<Self> {
        let frequencies = (0..head_dim / 2).map(|pair| (pair, 1.0 / theta.powf(2.0 * pair as f64 / head_dim as f64)));
        let frequencies = frequencies.map(|(pair, frequency)| scaling.apply(pair, frequency) as f32).collect::<Vec<_>>();
        let frequencies = Tensor::new(frequencies, device)?.unsqueeze(0)?;
        let positions = Tensor::arange(0u32, context as u32, device)?.to_dtype(DType::F32)?.unsqueeze(1)?;
        let angles = positions.matmul(&frequencies)?;
        let dtype = if is_half(dtype) { DType::F32 } else { dtype };
        Ok(Rotary { cos: angles.cos()?.to_dtype(dtype)?, sin: angles.sin()?.to_dtype(dtype)? })
    }

    /// Turns queries or keys by their positions, which are `0..` where none are given.
    ///
    /// # Shapes
    /// `x`: `(Batch, Heads, Seq, HeadDim)`, `positions`: `(Batch, Seq)`
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn apply(&self, x: &Tensor, positions: Option<&Tensor>) -> Result<Tensor> {
        let (dtype, x) = (x.dtype(), &widen(x)?);
        let turn = |table: &Tensor| match positions {
            None => table.narrow(0, 0, x.dim(2)?),
            Some(positions) => {
                let (rows, width) = positions.dims2()?;
                table.index_select(&positions.flatten_all()?, 0)?.reshape((rows, width, table.dim(1)?))
            }
        };
        let (cos, sin) = (turn(&self.cos)?, turn(&self.sin)?);
        let turned = match x.track_op() {
            false if cpu::takes(&[x, &cos, &sin]) => cpu::rotate(x, &cos, &sin)?,
            false => candle_nn::rotary_emb::rope(&x.contiguous()?, &cos, &sin)?,
            // The fused form has no gradient.
            true => {
                let whole = |half: &Tensor| {
                    let half = if half.rank() == 2 { half.unsqueeze(0)? } else { half.clone() };
                    Tensor::cat(&[&half, &half], D::Minus1)?.unsqueeze(1)
                };
                let half = x.dim(D::Minus1)? / 2;
                let turned = Tensor::cat(&[&x.narrow(D::Minus1, half, half)?.neg()?, &x.narrow(D::Minus1, 0, half)?], D::Minus1)?;
                (x.broadcast_mul(&whole(&cos)?)? + turned.broadcast_mul(&whole(&sin)?)?)?
            }
        };
        Ok(turned.to_dtype(dtype)?)
    }
}

impl Scaling {
    /// The frequency of the pair of channels with this number.
    fn apply(&self, pair: usize, frequency: f64) -> f64 {
        match *self {
            Scaling::None => frequency,
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Factors(ref factors) => frequency / factors.get(pair).copied().unwrap_or(1.0),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let turns = original_context * frequency / (2.0 * std::f64::consts::PI);
                if turns < low_freq_factor {
                    frequency / factor
                } else if turns > high_freq_factor {
                    frequency
                } else {
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}
