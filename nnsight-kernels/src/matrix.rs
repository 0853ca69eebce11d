//! Weight matrices as they are held in memory: as tensors, or packed into panels, in the model's type or quantised.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use crate::cpu::entries;
use crate::cpu::panels::{Encoding, GROUP, Panels};
use crate::dispatch::packs_weights;

/// How the matrices of linear maps are held in memory. A pass over few positions takes as long as reading them does.
///
/// Whatever the format, products are computed in `f32` with the values that it holds: `weight` sites show those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// 16 bits: `f32` without its last 16 bits.
    Bf16,
    /// 8 bits, and a scale for every 32 entries, as the format of this name of GGUF.
    Q8_0,
    /// 4 bits, and a scale and an offset for every 32 entries, as the format of this name of GGUF.
    Q4_1,
}

impl WeightFormat {
    /// Whether weights can be held like this on a device.
    pub fn exists_on(self, device: &Device) -> bool {
        packs_weights(device)
    }
}

/// A weight matrix of a linear map.
#[derive(Clone, Debug)]
pub struct Matrix {
    held: Held,
    /// The type of the entries for those who ask for them.
    dtype: DType,
}

#[derive(Clone, Debug)]
enum Held {
    /// `(In, Out)`
    Tensor(Tensor),
    Panels(Arc<Panels>),
}

impl From<Tensor> for Matrix {
    /// From a tensor of shape `(In, Out)`, which may be a transposed view.
    fn from(weight: Tensor) -> Self {
        Matrix { dtype: weight.dtype(), held: Held::Tensor(weight) }
    }
}

impl Matrix {
    /// From a tensor of shape `(In, Out)`, packed in the order in which products read it if there is one for its type and device.
    ///
    /// # Errors
    /// If it is not a matrix.
    pub fn packed(weight: Tensor) -> Result<Self> {
        let dtype = weight.dtype();
        let panels = match dtype {
            _ if !packs_weights(weight.device()) || weight.elem_count() == 0 => return Ok(Matrix::from(weight)),
            DType::F32 => panels(&weight)?,
            // The panels hold the same numbers, and are read without being converted in memory first.
            DType::BF16 if weight.dim(0)? % GROUP == 0 => panels(&weight)?.pack(Encoding::Bf16),
            DType::F16 if weight.dim(0)? % GROUP == 0 => panels(&weight)?.pack(Encoding::F16),
            _ => return Ok(Matrix::from(weight)),
        };
        if panels.overflows() {
            return Ok(Matrix::from(weight));
        }
        Ok(Matrix { held: Held::Panels(panels.into()), dtype })
    }

    /// From a tensor of shape `(In, Out)`, held in fewer bits.
    ///
    /// # Errors
    /// If the format does not [exist](WeightFormat::exists_on) on its device, or the inner size is not a multiple of 32.
    pub fn quantized(weight: &Tensor, format: WeightFormat) -> Result<Self> {
        if !format.exists_on(weight.device()) {
            bail!("weights in {format:?} are for the CPU, and these are on {:?}", weight.device().location());
        }
        let (inner, outer) = weight.dims2()?;
        if inner % GROUP != 0 || weight.elem_count() == 0 {
            bail!("a matrix of shape {:?} cannot be quantised: its inputs are held in groups of {GROUP}", (inner, outer));
        }
        let encoding = match format {
            WeightFormat::Bf16 => Encoding::Bf16,
            WeightFormat::Q8_0 => Encoding::Q8,
            WeightFormat::Q4_1 => Encoding::Q4,
        };
        Ok(Matrix { held: Held::Panels(panels(weight)?.pack(encoding).into()), dtype: weight.dtype() })
    }

    /// The type of the entries.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The entries.
    ///
    /// # Shapes
    /// `(In, Out)`
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensor(&self) -> Result<Tensor> {
        match &self.held {
            Held::Tensor(weight) => Ok(weight.clone()),
            Held::Panels(panels) => Tensor::from_vec(panels.rows(), (panels.outer, panels.inner), &Device::Cpu)?.to_dtype(self.dtype)?.t(),
        }
    }

    /// Some of the outputs' weights, a row for each.
    ///
    /// # Shapes
    /// `outputs`: `(n,)`; the result: `(n, In)`.
    ///
    /// # Errors
    /// If there is no such output.
    pub fn rows(&self, outputs: &Tensor) -> Result<Tensor> {
        let panels = match &self.held {
            Held::Tensor(weight) => return weight.t()?.contiguous()?.index_select(outputs, 0),
            Held::Panels(panels) => panels,
        };
        let outputs = outputs.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        if let Some(output) = outputs.iter().find(|&&output| output as usize >= panels.outer) {
            bail!("there is no output {output}: the matrix has {}", panels.outer);
        }
        let mut rows = vec![0f32; outputs.len() * panels.inner];
        // The entries of a row are far apart: each thread fetches several rows.
        rows.par_chunks_mut(panels.inner).zip(&outputs).with_min_len(16).for_each(|(row, &output)| panels.copy_row(output as usize, row));
        Tensor::from_vec(rows, (outputs.len(), panels.inner), &Device::Cpu)?.to_dtype(self.dtype)
    }

    /// The panels, if it is packed.
    pub(crate) fn panels(&self) -> Option<&Arc<Panels>> {
        match &self.held {
            Held::Tensor(_) => None,
            Held::Panels(panels) => Some(panels),
        }
    }
}

fn panels(weight: &Tensor) -> Result<Panels> {
    let (inner, _) = weight.dims2()?;
    let rows = weight.t()?.contiguous()?.to_dtype(DType::F32)?;
    let (storage, layout) = rows.storage_and_layout();
    Ok(Panels::new(entries(&storage, layout)?, inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_weights_stay_infinite() {
        let weight = Tensor::new(&[[f32::INFINITY, 1.0]], &Device::Cpu).unwrap().repeat((32, 1)).unwrap().to_dtype(DType::F16).unwrap();
        let matrix = Matrix::packed(weight).unwrap();
        assert!(matrix.panels().is_none());
        assert!(Matrix::packed(Tensor::ones((32, 2), DType::F16, &Device::Cpu).unwrap()).unwrap().panels().is_some());
    }

    #[test]
    fn rows_are_those_of_the_tensor() {
        let weight = Tensor::randn(0f32, 1.0, (40, 70), &Device::Cpu).unwrap();
        let outputs = Tensor::new(&[69u32, 0, 33, 0], &Device::Cpu).unwrap();
        let of = |matrix: Matrix| matrix.rows(&outputs).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(of(Matrix::packed(weight.clone()).unwrap()), of(Matrix::from(weight.clone())));
        assert!(Matrix::packed(weight).unwrap().rows(&Tensor::new(&[70u32], &Device::Cpu).unwrap()).is_err());
    }

    #[test]
    fn what_cannot_be_quantised_is_refused() {
        let weight = Tensor::zeros((33, 7), DType::F32, &Device::Cpu).unwrap();
        assert!(Matrix::quantized(&weight, WeightFormat::Q8_0).unwrap_err().to_string().contains("groups of 32"));
    }
}
