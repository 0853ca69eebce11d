//! Weight matrices as they lie in memory: as tensors, or in panels, in the model's type or in fewer bits.

use std::sync::Arc;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::cpu::panels::{Form, GROUP, Panels};

/// How the matrices of linear maps are held in memory. A pass over few positions takes as long as reading them does.
///
/// Whatever the form, products are computed in `f32` with the values that the form holds: `weight` sites show those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// 16 bits: `f32` without its last 16 bits.
    Bf16,
    /// 8 bits, and a scale for every 32 entries, as the format of this name of GGUF.
    Q8_0,
    /// 4 bits, and a scale and an offset for every 32 entries, as the format of this name of GGUF.
    Q4_1,
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
    /// From a tensor of shape `(In, Out)`, put into the order in which products read it where there is one for its type and device.
    ///
    /// # Errors
    /// Where it is not a matrix.
    pub fn laid_out(weight: Tensor) -> Result<Self> {
        let dtype = weight.dtype();
        let panels = match dtype {
            _ if !weight.device().is_cpu() => return Ok(Matrix::from(weight)),
            DType::F32 => panels(&weight)?,
            // The panels hold the same numbers, and are read without being widened in memory first.
            DType::BF16 if weight.dim(0)? % GROUP == 0 => panels(&weight)?.pack(Form::Halves),
            DType::F16 if weight.dim(0)? % GROUP == 0 => panels(&weight)?.pack(Form::F16),
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
    /// Where the device is not the CPU, or the inner size is not a multiple of 32.
    pub fn packed(weight: &Tensor, format: WeightFormat) -> Result<Self> {
        if !weight.device().is_cpu() {
            bail!("weights in {format:?} are for the CPU");
        }
        let panels = panels(weight)?;
        if panels.inner % GROUP != 0 {
            bail!("a matrix with {} entries in a row cannot be held in groups of {GROUP}", panels.inner);
        }
        let form = match format {
            WeightFormat::Bf16 => Form::Halves,
            WeightFormat::Q8_0 => Form::Bytes,
            WeightFormat::Q4_1 => Form::Nibbles,
        };
        Ok(Matrix { held: Held::Panels(panels.pack(form).into()), dtype: weight.dtype() })
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
    /// Where a computation fails.
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
    /// Where there is no such output.
    pub fn rows(&self, outputs: &Tensor) -> Result<Tensor> {
        let panels = match &self.held {
            Held::Tensor(weight) => return weight.t()?.contiguous()?.index_select(outputs, 0),
            Held::Panels(panels) => panels,
        };
        let outputs = outputs.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        if let Some(output) = outputs.iter().find(|&&output| output as usize >= panels.outer) {
            bail!("row {output} of {}", panels.outer);
        }
        let mut rows = vec![0f32; outputs.len() * panels.inner];
        // A row lies in as many places as it has entries: some are fetched at a time.
        rows.par_chunks_mut(panels.inner).zip(&outputs).with_min_len(16).for_each(|(row, &output)| panels.copy_row(output as usize, row));
        Tensor::from_vec(rows, (outputs.len(), panels.inner), &Device::Cpu)?.to_dtype(self.dtype)
    }

    /// In panels, where it is.
    pub(super) fn panels(&self) -> Option<&Arc<Panels>> {
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
    match &*storage {
        Storage::Cpu(CpuStorage::F32(entries)) => {
            let start = layout.start_offset();
            Ok(Panels::new(&entries[start..start + rows.elem_count()], inner))
        }
        _ => bail!("panels are for f32 on the CPU"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_weights_stay_infinite() {
        let weight = Tensor::new(&[[f32::INFINITY, 1.0]], &Device::Cpu).unwrap().repeat((32, 1)).unwrap().to_dtype(DType::F16).unwrap();
        let matrix = Matrix::laid_out(weight).unwrap();
        assert!(matrix.panels().is_none());
        assert!(Matrix::laid_out(Tensor::ones((32, 2), DType::F16, &Device::Cpu).unwrap()).unwrap().panels().is_some());
    }

    #[test]
    fn rows_are_those_of_the_tensor() {
        let weight = Tensor::randn(0f32, 1.0, (40, 70), &Device::Cpu).unwrap();
        let outputs = Tensor::new(&[69u32, 0, 33, 0], &Device::Cpu).unwrap();
        let of = |matrix: Matrix| matrix.rows(&outputs).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(of(Matrix::laid_out(weight.clone()).unwrap()), of(Matrix::from(weight.clone())));
        assert!(Matrix::laid_out(weight).unwrap().rows(&Tensor::new(&[70u32], &Device::Cpu).unwrap()).is_err());
    }

    #[test]
    fn what_cannot_be_packed_is_refused() {
        let weight = Tensor::zeros((33, 7), DType::F32, &Device::Cpu).unwrap();
        assert!(Matrix::packed(&weight, WeightFormat::Q8_0).unwrap_err().to_string().contains("groups of 32"));
    }
}
