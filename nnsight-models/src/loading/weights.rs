//! The tensors of a checkpoint, by their Hugging Face names.

use candle_core::{DType, Device, Tensor};

use super::gguf::Gguf;
use super::safetensors::Safetensors;
use super::source::Source;
use crate::{Error, Result};

/// The tensors of a checkpoint, read one by one, so that the weights are in memory once.
pub struct Weights {
    files: Files,
    dtype: DType,
    device: Device,
}

pub(super) enum Files {
    Safetensors(Safetensors),
    Gguf(Gguf),
}

impl Weights {
    pub(super) fn new(files: Files, source: &Source) -> Self {
        Weights { files, dtype: source.dtype, device: source.device.clone() }
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
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }
}
