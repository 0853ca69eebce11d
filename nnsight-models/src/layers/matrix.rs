//! Weight matrices as they lie in memory: in the model's type, or in fewer bits and widened as they are used.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use half::{bf16, f16};

/// How the matrices of linear maps are held in memory. A pass over few positions takes as long as reading them does.
///
/// Whatever the form, products are computed in `f32` with the values that the form holds: `weight` sites show those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// 16 bits: `f32` without its last 16 bits.
    Bf16,
    /// 8 bits and a scale for every 32 entries (the format of the same name of GGUF).
    Q8_0,
    /// 4 bits, a scale and an offset for every 32 entries (the format of the same name of GGUF).
    Q4_1,
}

/// Entries with a scale in common.
const GROUP: usize = 32;

/// A weight matrix of a linear map.
#[derive(Clone, Debug)]
pub struct Matrix(Data);

#[derive(Clone, Debug)]
enum Data {
    /// `(In, Out)`, best a view of one that lies as `(Out, In)`.
    Plain(Tensor),
    Packed {
        packed: Arc<Packed>,
        /// In, Out.
        sizes: (usize, usize),
    },
}

impl From<Tensor> for Matrix {
    /// From a tensor of shape `(In, Out)`, which may be a transposed view.
    fn from(weight: Tensor) -> Self {
        Matrix(Data::Plain(weight))
    }
}

#[derive(Debug)]
enum Packed {
    Bf16(Vec<bf16>),
    Q8 { codes: Vec<i8>, scales: Vec<f32> },
    /// Of every group the first sixteen entries are in the lower halves of its bytes, the others in the upper.
    Q4 { codes: Vec<u8>, scales: Vec<f32>, offsets: Vec<f32> },
}

/// The rows of a matrix, `(Out, In)`, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a>(Form<'a>);

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    F32(&'a [f32]),
    Packed(&'a Packed),
}

impl Matrix {
    /// From a tensor of shape `(In, Out)`, put into the order in which products with few rows read it.
    ///
    /// # Errors
    /// Where it is not a matrix.
    pub fn laid_out(weight: Tensor) -> Result<Self> {
        let rows = weight.t()?;
        Ok(Matrix::from(if rows.is_contiguous() { weight } else { rows.contiguous()?.t()? }))
    }

    /// From a tensor of shape `(In, Out)`, held in fewer bits.
    ///
    /// # Errors
    /// Where the device is not the CPU, or the inner size is not a multiple of 32.
    pub fn packed(weight: &Tensor, format: WeightFormat) -> Result<Self> {
        let (inner, outer) = weight.dims2()?;
        let rows = weight.t()?.to_dtype(DType::F32)?.contiguous()?;
        if !rows.device().is_cpu() {
            bail!("weights in {format:?} are for the CPU");
        }
        if inner % GROUP != 0 {
            bail!("a matrix with {inner} entries in a row cannot be held in groups of {GROUP}");
        }
        let quantized = |dtype| -> Result<_> { Ok(QTensor::quantize(&rows, dtype)?.data()?.into_owned()) };
        let packed = match format {
            WeightFormat::Bf16 => Packed::Bf16(rows.to_dtype(DType::BF16)?.flatten_all()?.to_vec1()?),
            WeightFormat::Q8_0 => {
                let bytes = quantized(GgmlDType::Q8_0)?;
                let blocks = || bytes.chunks_exact(2 + GROUP);
                let codes = blocks().flat_map(|block| block[2..].iter().map(|code| *code as i8)).collect();
                Packed::Q8 { codes, scales: blocks().map(|block| half_at(block, 0)).collect() }
            }
            WeightFormat::Q4_1 => {
                let bytes = quantized(GgmlDType::Q4_1)?;
                let blocks = || bytes.chunks_exact(4 + GROUP / 2);
                let codes = blocks().flat_map(|block| block[4..].iter().copied()).collect();
                let half = |at| blocks().map(move |block| half_at(block, at)).collect();
                Packed::Q4 { codes, scales: half(0), offsets: half(2) }
            }
        };
        Ok(Matrix(Data::Packed { packed: packed.into(), sizes: (inner, outer) }))
    }

    /// The entries.
    ///
    /// # Shapes
    /// `(In, Out)`
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn tensor(&self) -> Result<Tensor> {
        match &self.0 {
            Data::Plain(weight) => Ok(weight.clone()),
            Data::Packed { packed, sizes: (inner, outer) } => {
                let mut entries = Vec::new();
                Stored(Form::Packed(packed)).rows(0, *outer, *inner, &mut entries);
                Tensor::from_vec(entries, (*outer, *inner), &Device::Cpu)?.t()
            }
        }
    }

    /// The sizes of the input and the output.
    ///
    /// # Errors
    /// Where it is not a matrix.
    pub fn sizes(&self) -> Result<(usize, usize)> {
        match &self.0 {
            Data::Plain(weight) => weight.dims2(),
            Data::Packed { sizes, .. } => Ok(*sizes),
        }
    }

    /// Whether the rows can be borrowed as they are.
    pub fn is_stored(&self) -> bool {
        match &self.0 {
            Data::Plain(weight) => {
                let lies_in_rows = weight.t().is_ok_and(|rows| rows.is_contiguous());
                lies_in_rows && weight.device().is_cpu() && weight.dtype() == DType::F32 && !weight.track_op()
            }
            Data::Packed { .. } => true,
        }
    }

    /// Borrows the rows of some matrices.
    ///
    /// # Errors
    /// Where one cannot be borrowed.
    pub fn borrow<T>(matrices: &[&Matrix], body: impl FnOnce(&[Stored<'_>]) -> T) -> Result<T> {
        let guards = matrices.iter().map(|matrix| match &matrix.0 {
            Data::Plain(weight) => Some(weight.storage_and_layout()),
            Data::Packed { .. } => None,
        });
        let guards = guards.collect::<Vec<_>>();
        let stored = matrices.iter().zip(&guards).map(|(matrix, guard)| match (&matrix.0, guard) {
            (Data::Packed { packed, .. }, _) => Ok(Stored(Form::Packed(packed))),
            (Data::Plain(weight), Some((storage, layout))) if matrix.is_stored() => match &**storage {
                Storage::Cpu(CpuStorage::F32(entries)) => {
                    let start = layout.start_offset();
                    Ok(Stored(Form::F32(&entries[start..start + weight.elem_count()])))
                }
                _ => bail!("the rows of a matrix on another device cannot be borrowed"),
            },
            (Data::Plain(_), _) => bail!("the rows of a matrix in another order or type cannot be borrowed"),
        });
        Ok(body(&stored.collect::<Result<Vec<_>>>()?))
    }
}

/// A number of 16 bits.
fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

impl<'a> Stored<'a> {
    /// The number of rows.
    pub fn outer(&self, inner: usize) -> usize {
        let entries = match self.0 {
            Form::F32(entries) => entries.len(),
            Form::Packed(Packed::Bf16(entries)) => entries.len(),
            Form::Packed(Packed::Q8 { codes, .. }) => codes.len(),
            Form::Packed(Packed::Q4 { codes, .. }) => codes.len() * 2,
        };
        entries / inner
    }

    /// Some rows side by side, widened where they are held in fewer bits.
    #[inline(always)]
    pub fn rows<'b>(&self, first: usize, count: usize, inner: usize, widened: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        let entries = first * inner..(first + count) * inner;
        let groups = first * inner / GROUP..(first + count) * inner / GROUP;
        let packed = match self.0 {
            Form::F32(all) => return &all[entries],
            Form::Packed(packed) => packed,
        };
        widened.resize(count * inner, 0.0);
        match packed {
            Packed::Bf16(all) => {
                for (wide, narrow) in widened.iter_mut().zip(&all[entries]) {
                    *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
                }
            }
            Packed::Q8 { codes, scales } => {
                let codes = codes[entries].as_chunks::<GROUP>().0.iter();
                for ((wide, codes), scale) in widened.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes).zip(&scales[groups]) {
                    for (wide, code) in wide.iter_mut().zip(codes) {
                        *wide = f32::from(*code) * scale;
                    }
                }
            }
            Packed::Q4 { codes, scales, offsets } => {
                let codes = codes[entries.start / 2..entries.end / 2].as_chunks::<{ GROUP / 2 }>().0.iter();
                let scaled = scales[groups.clone()].iter().zip(&offsets[groups]);
                for ((wide, codes), (scale, offset)) in widened.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes).zip(scaled) {
                    for (at, code) in codes.iter().enumerate() {
                        wide[at] = f32::from(code & 15) * scale + offset;
                        wide[at + GROUP / 2] = f32::from(code >> 4) * scale + offset;
                    }
                }
            }
        }
        widened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn a_packed_matrix_holds_what_it_was_made_of() {
        let weight = Tensor::randn(0f32, 1.0, (96, 7), &Device::Cpu).unwrap();
        for (format, bound) in [(WeightFormat::Bf16, 0.02), (WeightFormat::Q8_0, 0.02), (WeightFormat::Q4_1, 0.3)] {
            let packed = Matrix::packed(&weight, format).unwrap();
            let found = packed.tensor().unwrap();
            assert!(difference(&found, &weight) < bound, "{format:?}: {}", difference(&found, &weight));
            // What it holds it holds exactly, however often it is packed.
            let again = Matrix::packed(&found, format).unwrap().tensor().unwrap();
            assert!(difference(&again, &found) < 1e-3, "{format:?}");
        }
    }

    #[test]
    fn what_cannot_be_packed_is_refused() {
        let weight = Tensor::zeros((33, 7), DType::F32, &Device::Cpu).unwrap();
        assert!(Matrix::packed(&weight, WeightFormat::Q8_0).unwrap_err().to_string().contains("groups of 32"));
    }
}
