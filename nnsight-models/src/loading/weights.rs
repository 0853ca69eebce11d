//! The tensors of a checkpoint, by their Hugging Face names.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use super::gguf::Gguf;
use super::safetensors::Safetensors;
use crate::layers::{Matrix, WeightFormat};
use crate::{Error, Result};

/// The tensors of a checkpoint, read one by one, so that the weights are in memory once.
pub struct Weights {
    files: Files,
    dtype: DType,
    device: Device,
    format: Option<WeightFormat>,
    /// Everything that was asked for, where the checkpoint is to be written anew.
    copies: Option<HashMap<String, Tensor>>,
}

pub(super) enum Files {
    Safetensors(Safetensors),
    Gguf(Gguf),
}

impl Weights {
    pub(super) fn new(files: Files, dtype: DType, device: &Device, format: Option<WeightFormat>) -> Self {
        Weights { files, dtype, device: device.clone(), format, copies: None }
    }

    /// The files that hold them.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        match &self.files {
            Files::Safetensors(files) => files.paths(),
            Files::Gguf(file) => vec![file.path().to_path_buf()],
        }
    }

    /// The form in which matrices are held, if it is not `dtype`.
    pub(crate) fn format(&self) -> Option<WeightFormat> {
        self.format
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
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`], [`Error::Format`] where the file is damaged.
    pub fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = match &mut self.files {
            Files::Safetensors(files) => files.read(name)?,
            Files::Gguf(file) => file.read(name)?,
        };
        let Some(tensor) = tensor else {
            return Err(Error::MissingTensor { name: name.to_string() });
        };
        if tensor.dims() != shape {
            return Err(Error::TensorShape { name: name.to_string(), expected: shape.to_vec(), found: tensor.dims().to_vec() });
        }
        let tensor = tensor.to_dtype(self.dtype)?.to_device(&self.device)?;
        if let Some(copies) = &mut self.copies {
            copies.insert(name.to_string(), tensor.clone());
        }
        Ok(tensor)
    }

    /// A matrix of shape `(In, Out)` for a linear map, in the form in which such matrices are to be held.
    ///
    /// # Errors
    /// [`Error::Candle`] where it cannot be held in that form.
    pub fn matrix(&self, weight: Tensor) -> Result<Matrix> {
        match self.format {
            None => Ok(Matrix::laid_out(weight)?),
            Some(format) => Ok(Matrix::packed(&weight, format)?),
        }
    }

    /// The matrices of the token embedding `table` and of the head, each of shape `(Hidden, Vocab)`: one and the same where no head is named,
    /// because it is tied to the embedding.
    ///
    /// # Errors
    /// As [`Weights::get`] and [`Weights::matrix`].
    pub fn embedding_and_head(&mut self, table: &str, head: Option<&str>, (vocab, hidden): (usize, usize)) -> Result<(Matrix, Matrix)> {
        let table = self.get(table, &[vocab, hidden])?.t()?;
        let embedding = Matrix::laid_out(table.clone())?;
        let head = match (head, self.format) {
            (Some(head), _) => self.get(head, &[vocab, hidden])?.t()?,
            (None, Some(_)) => table,
            (None, None) => return Ok((embedding.clone(), embedding)),
        };
        Ok((embedding, self.matrix(head)?))
    }
}
