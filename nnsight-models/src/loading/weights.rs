//! The tensors of a checkpoint, by their Hugging Face names.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use nnsight_kernels::{Matrix, WeightFormat};

use super::finite;
use super::gguf::Gguf;
use super::safetensors::Safetensors;
use super::source::Source;
use crate::{Error, Result};

/// The tensors of a checkpoint, read one by one, so that the weights are in memory once.
///
/// What is asked for and not there is remembered, and so is what is there and not asked for: both are said at once when all has been asked for.
pub struct Weights {
    files: Files,
    dtype: DType,
    device: Device,
    format: Option<WeightFormat>,
    only_finite: bool,
    /// Tensors that may be left unused.
    ignored: Vec<String>,
    /// Under which names the tensors are stored that were asked for.
    used: HashSet<String>,
    /// What was asked for and is not there.
    missing: Vec<String>,
    /// The tables that were read, for heads that are tied to them.
    tables: HashMap<String, Head>,
    /// Everything that was asked for, if the checkpoint is to be written anew.
    copies: Option<HashMap<String, Tensor>>,
}

/// What a head is that is tied to a table.
enum Head {
    /// The table's own matrix.
    Same(Matrix),
    /// Made of the table's weight, from columns to rows, and held in fewer bits.
    Weight(Tensor),
}

pub(super) enum Files {
    Safetensors(Safetensors),
    Gguf(Gguf),
}

impl Files {
    fn find(&self, name: &str) -> Option<String> {
        match self {
            Files::Safetensors(files) => files.find(name),
            Files::Gguf(file) => file.find(name),
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Files::Safetensors(files) => files.names().collect(),
            Files::Gguf(file) => file.names().collect(),
        }
    }

    pub(super) fn paths(&self) -> Vec<&Path> {
        match self {
            Files::Safetensors(files) => files.paths().collect(),
            Files::Gguf(file) => vec![file.path()],
        }
    }
}

impl Weights {
    pub(super) fn new(files: Files, source: &Source) -> Self {
        Weights {
            files,
            dtype: source.dtype,
            device: source.device.clone(),
            format: source.format,
            only_finite: source.only_finite,
            ignored: source.ignored.clone(),
            used: HashSet::new(),
            missing: Vec::new(),
            tables: HashMap::new(),
            copies: None,
        }
    }

    /// Remembers every tensor from here on.
    pub(crate) fn remember(&mut self) {
        self.copies = Some(HashMap::new());
    }

    /// What was asked for since [`Weights::remember`].
    pub(crate) fn into_copies(self) -> HashMap<String, Tensor> {
        self.copies.unwrap_or_default()
    }

    /// The type that tensors come in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where tensors are put.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A tensor by its Hugging Face name. The prefix of the base model (`model.`, `transformer.`) may be missing in the file.
    ///
    /// A tensor that is not in the files is said after all others have been asked for, with all that are missing. Until then zeros take its place,
    /// and no more is read.
    ///
    /// # Errors
    /// [`Error::TensorShape`], [`Error::NotFinite`], [`Error::Format`] if the file is damaged.
    pub fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = match self.files.find(name) {
            Some(stored) => {
                let tensor = (self.missing.is_empty()).then(|| self.read(name, &stored)).transpose()?;
                self.used.insert(stored);
                tensor
            }
            None => match &self.files {
                Files::Gguf(file) if file.has_no_such_bias(name) => Some(Tensor::zeros(shape, DType::F32, &Device::Cpu)?),
                _ => {
                    self.missing.push(name.to_string());
                    None
                }
            },
        };
        let Some(tensor) = tensor else {
            // Takes no memory, however large.
            return Ok(Tensor::zeros((), self.dtype, &self.device)?.broadcast_as(shape)?);
        };
        if tensor.dims() != shape {
            return Err(Error::TensorShape { name: name.to_string(), expected: shape.to_vec(), found: tensor.dims().to_vec() });
        }
        let converted = tensor.to_dtype(self.dtype)?;
        // A type with a smaller range makes infinities of large numbers.
        if self.only_finite
            && converted.dtype() != tensor.dtype()
            && (converted.dtype().size_in_bytes() < tensor.dtype().size_in_bytes() || self.dtype == DType::F16)
        {
            finite::check(name, &converted)?;
        }
        let tensor = converted.to_device(&self.device)?;
        if let Some(copies) = &mut self.copies {
            copies.insert(name.to_string(), tensor.clone());
        }
        Ok(tensor)
    }

    fn read(&mut self, name: &str, stored: &str) -> Result<Tensor> {
        match &mut self.files {
            Files::Safetensors(files) => files.read(stored, self.only_finite),
            Files::Gguf(file) => file.read(name, stored, self.only_finite),
        }
    }

    /// A matrix of shape `(In, Out)` for a linear map, in the form in which such matrices are to be held.
    ///
    /// # Errors
    /// [`Error::Candle`] if it cannot be held in that form.
    pub fn matrix(&self, weight: Tensor) -> Result<Matrix> {
        match self.format {
            // The zeros in place of a missing tensor are not laid out.
            _ if !self.missing.is_empty() => Ok(Matrix::from(weight)),
            None => Ok(Matrix::packed(weight)?),
            Some(format) => Ok(Matrix::quantized(&weight, format)?),
        }
    }

    /// A table of rows, of shape `(rows, columns)`, as the matrix from columns to rows. It is not held in fewer bits.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix> {
        let weight = self.get(name, &shape)?.t()?;
        let matrix = if self.missing.is_empty() { Matrix::packed(weight.clone())? } else { Matrix::from(weight.clone()) };
        let head = if self.format.is_some() { Head::Weight(weight) } else { Head::Same(matrix.clone()) };
        self.tables.insert(name.to_string(), head);
        Ok(matrix)
    }

    /// The matrix of a head that is tied to the table `table`, which was read before.
    ///
    /// # Errors
    /// As [`Weights::matrix`]; [`Error::OtherHead`] if the files hold another head.
    pub fn tied_head(&mut self, table: &str, head: &str) -> Result<Matrix> {
        self.check_tied(table, head)?;
        match self.tables.get(table) {
            Some(Head::Same(matrix)) => Ok(matrix.clone()),
            Some(Head::Weight(weight)) => self.matrix(weight.clone()),
            None => Err(Error::MissingTensors { names: vec![table.to_string()] }),
        }
    }

    /// Refuses a head in the files that is not the token embedding, to which it is tied.
    fn check_tied(&mut self, table: &str, head: &str) -> Result<()> {
        let (Some(table), Some(stored)) = (self.files.find(table), self.files.find(head)) else { return Ok(()) };
        let is_same = match &mut self.files {
            Files::Safetensors(files) => files.are_equal(&table, &stored)?,
            // A GGUF file says that they are tied by having no head.
            Files::Gguf(_) => true,
        };
        if !is_same && !self.ignored.contains(&stored) {
            return Err(Error::OtherHead { head: stored });
        }
        self.used.insert(stored);
        Ok(())
    }

    /// Says what was missing, and what is in the files without having been asked for.
    ///
    /// # Errors
    /// [`Error::MissingTensors`], [`Error::UnusedTensors`]
    pub(crate) fn finish(&mut self) -> Result<()> {
        if !self.missing.is_empty() {
            return Err(Error::MissingTensors { names: std::mem::take(&mut self.missing) });
        }
        let unused = |name: &&str| !self.used.contains(*name) && !is_harmless(name) && !self.ignored.iter().any(|ignored| ignored == name);
        let mut names = self.files.names().into_iter().filter(unused).map(str::to_string).collect::<Vec<_>>();
        names.sort();
        match names.is_empty() {
            true => Ok(()),
            false => Err(Error::UnusedTensors { names }),
        }
    }
}

/// Whether a tensor is one that older files hold beside the weights: rotary tables, causal masks and the numbers of positions, which follow from the config.
fn is_harmless(name: &str) -> bool {
    // BERT's: 0, 1, 2 …
    const POSITIONS: &str = "embeddings.position_ids";
    const TABLES: [&str; 3] = [".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"];
    let is_mask = |name: &str| {
        let of = |prefix: &str, list: &str, masks: [&str; 2]| {
            let layer = name.strip_prefix(prefix).unwrap_or(name).strip_prefix(list).and_then(|rest| rest.split_once('.'));
            layer.is_some_and(|(layer, rest)| layer.bytes().all(|byte| byte.is_ascii_digit()) && masks.contains(&rest))
        };
        of("transformer.", "h.", ["attn.bias", "attn.masked_bias"]) || of("gpt_neox.", "layers.", ["attention.bias", "attention.masked_bias"])
    };
    name == POSITIONS || TABLES.iter().any(|end| name.ends_with(end) || name == &end[1..]) || is_mask(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_rotary_tables_are_harmless_and_nothing_like_them() {
        for name in [
            "gpt_neox.layers.2.attention.masked_bias",
            "transformer.h.0.attn.bias",
            "h.11.attn.masked_bias",
            "embeddings.position_ids",
            "model.layers.3.self_attn.rotary_emb.inv_freq",
        ] {
            assert!(is_harmless(name), "{name}");
        }
        for name in ["transformer.h.0.attn.c_attn.bias", "model.layers.0.attn.bias", "h.x.attn.bias", "position_ids", "inv_freq", "h.0.mlp.bias"] {
            assert!(!is_harmless(name), "{name}");
        }
    }
}
