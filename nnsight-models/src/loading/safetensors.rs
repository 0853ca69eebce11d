//! safetensors files, one or several, read tensor by tensor.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;

use crate::error::at;
use crate::{Error, Result};

/// The longest header that is read, as the format's own library has it.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of one or several files.
pub struct Safetensors {
    files: Vec<(PathBuf, File)>,
    entries: HashMap<String, Entry>,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// From the beginning of the file.
    start: u64,
    length: usize,
}

impl Safetensors {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names.
    pub fn open_folder(folder: &Path) -> Result<Self> {
        let index = folder.join("model.safetensors.index.json");
        let paths = match index.exists() {
            true => shards(folder, &index)?,
            false => vec![folder.join("model.safetensors")],
        };
        let mut opened = Safetensors { files: Vec::new(), entries: HashMap::new() };
        for path in paths {
            opened.add(path)?;
        }
        Ok(opened)
    }

    /// The files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(path, _)| path.clone()).collect()
    }

    fn add(&mut self, path: PathBuf) -> Result<()> {
        let damaged = |problem: String| Error::Format { path: path.clone(), format: "safetensors", problem };
        let mut file = File::open(&path).map_err(at(&path))?;
        let size = file.metadata().map_err(at(&path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| damaged("it is shorter than its header".into()))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length + 8 > size {
            return Err(damaged(format!("its header is said to have {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(at(&path))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        for (name, info) in metadata.tensors() {
            let (start, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
            if end < start || end > size - 8 - length {
                return Err(damaged(format!("the tensor `{name}` lies outside of the file, which may have been cut off")));
            }
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: 8 + length + start,
                length: (end - start) as usize,
            };
            self.entries.insert(name, entry);
        }
        self.files.push((path, file));
        Ok(())
    }

    /// Reads a tensor by its Hugging Face name.
    pub fn read(&mut self, name: &str) -> Result<Option<Tensor>> {
        let short = || name.strip_prefix("model.").or(name.strip_prefix("transformer."));
        let Some(entry) = self.entries.get(name).or_else(|| self.entries.get(short()?)) else {
            return Ok(None);
        };
        let (path, file) = &mut self.files[entry.file];
        let damaged = |problem: String| Error::Format { path: path.clone(), format: "safetensors", problem };
        let dtype = candle_dtype(entry.dtype).ok_or_else(|| damaged(format!("`{name}` is of the type {:?}", entry.dtype)))?;
        let count = entry.shape.iter().product::<usize>();
        if count * dtype.size_in_bytes() != entry.length {
            return Err(damaged(format!("`{name}` has {} bytes for the shape {:?}", entry.length, entry.shape)));
        }
        file.seek(SeekFrom::Start(entry.start)).map_err(at(path))?;
        if dtype == DType::F32 {
            // Read to where it stays, without a second copy.
            let mut numbers = vec![0f32; count];
            file.read_exact(bytemuck::cast_slice_mut(&mut numbers)).map_err(at(path))?;
            return Ok(Some(Tensor::from_vec(numbers, entry.shape.as_slice(), &Device::Cpu)?));
        }
        let mut bytes = vec![0; entry.length];
        file.read_exact(&mut bytes).map_err(at(path))?;
        Ok(Some(Tensor::from_raw_buffer(&bytes, dtype, &entry.shape, &Device::Cpu)?))
    }
}

/// The files that an index names.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let damaged = |problem: &str| Error::Format { path: index.to_path_buf(), format: "safetensors index", problem: problem.to_string() };
    let text = std::fs::read_to_string(index).map_err(at(index))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?;
    let map = json["weight_map"].as_object().ok_or_else(|| damaged("it has no `weight_map`"))?;
    let names = map.values().map(|name| name.as_str().filter(|name| !name.contains(['/', '\\']))).collect::<Option<BTreeSet<_>>>();
    let names = names.ok_or_else(|| damaged("its `weight_map` names something other than files of the folder"))?;
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn candle_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F64 => Some(DType::F64),
        _ => None,
    }
}
