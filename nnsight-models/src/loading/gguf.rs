//! GGUF files: quantized weights, config and tokenizer in one.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::gguf_header::whole;
use super::gguf_names::{GgufNames, Stored};
use super::{finite, gguf_config, gguf_header, regular};
use crate::config::Config;
use crate::error::plain;
use crate::tokenizer::{GgufTokenizer, Tokenizer};
use crate::{Error, NoTokenizer, Result};

/// The tensor of the rotary frequencies' factors, which is part of the config.
const FACTORS: &str = "rope_freqs.weight";

/// An open GGUF file.
pub struct Gguf {
    path: PathBuf,
    file: BufReader<File>,
    content: Content,
    names: &'static GgufNames,
}

impl Gguf {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file of the architecture that has these names, and reads its header.
    pub fn open(path: &Path, names: &'static GgufNames) -> Result<Self> {
        let (file, content) = opened(path)?;
        match content.metadata.get("general.architecture") {
            Some(Value::String(name)) if name == names.architecture => Ok(Gguf { path: path.to_path_buf(), file, content, names }),
            Some(Value::String(name)) => Err(Error::OtherArchitecture { expected: names.architecture, found: name.clone() }),
            _ => {
                let problem = "it does not name its architecture".into();
                Err(Error::Format { path: path.to_path_buf(), format: "GGUF", problem })
            }
        }
    }

    /// By how much each rotary frequency is stretched, if it is: llama.cpp stores the outcome of Llama 3's scaling as a tensor.
    fn rope_factors(&mut self) -> Result<Option<Vec<f32>>> {
        if !self.content.tensor_infos.contains_key(FACTORS) {
            return Ok(None);
        }
        let factors = self.dequantized(FACTORS, true)?;
        Ok(Some(factors.flatten_all()?.to_vec1()?))
    }

    /// What a `config.json` of this `model_type` would say, without regard to some keys.
    pub fn config(&mut self, model_type: &str, ignored: &[String]) -> Result<Config> {
        let factors = self.rope_factors()?;
        gguf_config::config(&self.path, &self.content, (model_type, self.names), ignored, factors)
    }

    /// The tokenizer that the file's metadata describes, or why there is none.
    pub fn tokenizer(&self) -> Result<Tokenizer, NoTokenizer> {
        GgufTokenizer::read(&self.content.metadata)?.build()
    }

    /// The names of all tensors but those that are part of the config.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.content.tensor_infos.keys().map(String::as_str).filter(|name| *name != FACTORS)
    }

    /// Under which name a tensor is stored.
    pub fn find(&self, name: &str) -> Option<String> {
        let (module, parameter) = name.rsplit_once('.')?;
        let (module, _) = self.names.module(module)?;
        Some(format!("{module}.{parameter}")).filter(|stored| self.content.tensor_infos.contains_key(stored))
    }

    /// Whether a bias is one that the file leaves out, as it does if it is zero while others of the kind are not.
    pub fn has_no_such_bias(&self, name: &str) -> bool {
        let module = name.strip_suffix(".bias").and_then(|module| self.names.module(module));
        module.is_some_and(|(module, _)| self.names.may_have_bias(&module))
    }

    /// Reads and dequantizes the tensor `stored`, in the form that it has under its Hugging Face name.
    pub fn read(&mut self, name: &str, stored: &str, only_finite: bool) -> Result<Tensor> {
        let tensor = self.dequantized(stored, only_finite)?;
        let form = name.rsplit_once('.').and_then(|(module, _)| self.names.module(module)).map_or(Stored::Same, |(_, form)| form);
        let is_weight = name.ends_with(".weight");
        match form {
            Stored::QueryPairs => self.halves(stored, &tensor, self.heads("attention.head_count")),
            Stored::KeyPairs => self.halves(stored, &tensor, self.heads("attention.head_count_kv").or(self.heads("attention.head_count"))),
            Stored::Transposed if is_weight => Ok(tensor.t()?.contiguous()?),
            Stored::PlusOne if is_weight => Ok((tensor - 1.0)?),
            Stored::QueriesFirst => match self.heads("attention.head_count") {
                Some(heads) => by_head(&tensor, heads).map_err(|error| self.damaged(stored, error)),
                None => Ok(tensor),
            },
            Stored::Same | Stored::Transposed | Stored::PlusOne => Ok(tensor),
        }
    }

    fn halves(&self, stored: &str, tensor: &Tensor, heads: Option<usize>) -> Result<Tensor> {
        match heads {
            Some(heads) => halves(tensor, heads).map_err(|error| self.damaged(stored, error)),
            None => Ok(tensor.clone()),
        }
    }

    fn dequantized(&mut self, stored: &str, only_finite: bool) -> Result<Tensor> {
        let quantized = self.content.tensor(&mut self.file, stored, &Device::Cpu).map_err(|error| self.damaged(stored, error))?;
        let is_finite = !only_finite || scales_are_finite(&quantized)?;
        let tensor = quantized.dequantize(&Device::Cpu).map_err(|error| self.damaged(stored, error))?;
        if !is_finite {
            finite::check(stored, &tensor)?;
        }
        Ok(tensor)
    }

    fn damaged(&self, stored: &str, error: candle_core::Error) -> Error {
        Error::Format { path: self.path.clone(), format: "GGUF", problem: format!("`{stored}`: {}", plain(error)) }
    }

    /// A number of heads, which the config has checked.
    fn heads(&self, key: &str) -> Option<usize> {
        let value = self.content.metadata.get(&format!("{}.{key}", self.names.architecture))?;
        let value = if let Value::Array(values) = value { values.first()? } else { value };
        usize::try_from(whole(value)?).ok()
    }
}

/// A file with its header.
fn opened(path: &Path) -> Result<(BufReader<File>, Content)> {
    let (file, size) = regular::open(path)?;
    let mut file = BufReader::new(file);
    let content = gguf_header::read(&mut file, path, size)?;
    let number = |key: &str| content.metadata.get(key).and_then(whole);
    if let Some(count) = number("split.count").filter(|&count| count > 1) {
        let part = number("split.no").map_or(1, |number| number.saturating_add(1));
        return Err(Error::Split { path: path.to_path_buf(), part, count });
    }
    Ok((file, content))
}

/// The tokenizer of a file of any architecture.
pub fn tokenizer(path: &Path) -> Result<Tokenizer> {
    Ok(GgufTokenizer::read(&opened(path)?.1.metadata)?.build()?)
}

/// Whether all scales of a tensor's blocks are finite, and with them all its entries: codes are small numbers. A fraction of the bytes is looked at.
fn scales_are_finite(tensor: &QTensor) -> Result<bool> {
    use GgmlDType::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8_1, Q8K};
    // Where the scales of 16 bits lie in a block.
    let scales: &[usize] = match tensor.dtype() {
        F32 => return Ok(finite::bytes(&tensor.data()?, DType::F32)),
        F16 => return Ok(finite::bytes(&tensor.data()?, DType::F16)),
        BF16 => return Ok(finite::bytes(&tensor.data()?, DType::BF16)),
        Q4_0 | Q5_0 | Q8_0 => &[0],
        Q4_1 | Q5_1 | Q8_1 | Q4K | Q5K => &[0, 2],
        Q2K => &[80, 82],
        Q3K => &[108],
        Q6K => &[208],
        // Its scale has 32 bits, of which the upper half says as much.
        Q8K => &[2],
    };
    let exponent: u16 = if tensor.dtype() == Q8K { 0x7f80 } else { 0x7c00 };
    let data = tensor.data()?;
    let is_finite = |block: &[u8], at: usize| u16::from_le_bytes([block[at], block[at + 1]]) & exponent != exponent;
    let blocks = data.chunks_exact(tensor.dtype().type_size());
    Ok(blocks.fold(true, |all, block| scales.iter().fold(all, |all, &at| all & is_finite(block, at))))
}

/// llama.cpp turns neighbouring channels of a head against each other, Hugging Face the two halves of a head: this gives back the latter's
/// order of rows.
fn halves(weight: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let dims = weight.dims().to_vec();
    let rows = dims.first().copied().unwrap_or(0);
    let rest = dims.iter().skip(1).product::<usize>();
    let pairs = weight.reshape((heads, rows / heads.max(1) / 2, 2, rest))?;
    pairs.transpose(1, 2)?.contiguous()?.reshape(dims)
}

/// All queries, all keys and all values as those of one head after the other.
fn by_head(weight: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let dims = weight.dims().to_vec();
    let rows = dims.first().copied().unwrap_or(0);
    let parts = weight.reshape((3, heads, rows / heads.max(1) / 3, dims.iter().skip(1).product::<usize>()))?;
    parts.transpose(0, 1)?.contiguous()?.reshape(dims)
}
