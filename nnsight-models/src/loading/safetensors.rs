//! safetensors files, one or several, read tensor by tensor.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata};

use super::shards::{self, Index};
use super::{finite, regular};
use crate::error::at;
use crate::{Error, Result};

/// The longest header that is read, as the format's own library has it.
const MAX_HEADER: u64 = 100_000_000;

/// The file of a checkpoint that is in one.
const WHOLE: &str = "model.safetensors";

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
    /// Opens `model.safetensors` of a folder, or the files that its index names.
    pub fn open_folder(folder: &Path) -> Result<Self> {
        let path = folder.join(shards::INDEX);
        if !path.exists() {
            let file = folder.join(WHOLE);
            return match file.exists() {
                true => Safetensors::open_file(file),
                false => Err(others(folder).unwrap_or_else(|| missing(file))),
            };
        }
        let index = Index::read(&path, &regular::text(&path, regular::SMALL)?)?;
        if !index.files.contains(WHOLE) && folder.join(WHOLE).exists() {
            let problem = format!("it does not name `{WHOLE}`, which is in the folder too; name that file, or delete one of them");
            return Err(Error::Format { path, format: "safetensors index", problem });
        }
        let mut opened = Safetensors { files: Vec::new(), entries: HashMap::new() };
        for name in &index.files {
            opened.add(folder.join(name))?;
        }
        let lies = |(tensor, name): &(&String, &String)| {
            opened.entries.get(*tensor).is_none_or(|entry| opened.files[entry.file].0.file_name() != Some(OsStr::new(name)))
        };
        if let Some((tensor, name)) = index.tensors.iter().find(lies) {
            let problem = format!("by its `weight_map` the tensor `{tensor}` is in `{name}`, which does not have it");
            return Err(Error::Format { path, format: "safetensors index", problem });
        }
        Ok(opened)
    }

    /// Opens one file, whatever its name.
    pub fn open_file(path: PathBuf) -> Result<Self> {
        let mut opened = Safetensors { files: Vec::new(), entries: HashMap::new() };
        opened.add(path)?;
        Ok(opened)
    }

    fn add(&mut self, path: PathBuf) -> Result<()> {
        let damaged = |problem: String| Error::Format { path: path.clone(), format: "safetensors", problem };
        let (mut file, size) = regular::open(&path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| damaged("it is shorter than its header".into()))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length + 8 > size {
            return Err(damaged(format!("its header is said to have {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(at(&path))?;
        // Reading it checks that sizes do not overflow, and that the tensors lie one after the other without gaps.
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let room = size - 8 - length;
        for (name, info) in metadata.tensors() {
            let (start, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
            if end < start || end > room {
                return Err(damaged(format!("the tensor `{name}` lies outside of the file, which may have been cut off")));
            }
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: 8 + length + start,
                length: (end - start) as usize,
            };
            if let Some(other) = self.entries.get(&name) {
                return Err(damaged(format!("the tensor `{name}` is in {} too", self.files[other.file].0.display())));
            }
            self.entries.insert(name, entry);
        }
        if (metadata.data_len() as u64) < room {
            return Err(damaged(format!("its tensors end at {} of {room} bytes", metadata.data_len())));
        }
        self.files.push((path, file));
        Ok(())
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Under which name a tensor is stored. The prefix of the base model may be missing.
    pub fn find(&self, name: &str) -> Option<String> {
        let short = name.strip_prefix("model.").or(name.strip_prefix("transformer."));
        [Some(name), short].into_iter().flatten().find(|name| self.entries.contains_key(*name)).map(str::to_string)
    }

    /// Reads a tensor by the name under which it is stored, and looks whether it is finite if that is asked for.
    pub fn read(&mut self, name: &str, only_finite: bool) -> Result<Tensor> {
        let Some(entry) = self.entries.get(name) else {
            return Err(Error::MissingTensors { names: vec![name.to_string()] });
        };
        let (path, file) = &mut self.files[entry.file];
        let damaged = |problem: String| Error::Format { path: path.clone(), format: "safetensors", problem };
        let dtype = candle_dtype(entry.dtype)
            .ok_or_else(|| damaged(format!("`{name}` is of the type {}; what can be read is F32, F16, BF16 and F64", entry.dtype)))?;
        let count = entry.shape.iter().product::<usize>();
        if count * dtype.size_in_bytes() != entry.length {
            return Err(damaged(format!("`{name}` has {} bytes for the shape {:?}", entry.length, entry.shape)));
        }
        file.seek(SeekFrom::Start(entry.start)).map_err(at(path))?;
        let mut is_finite = true;
        let mut fill = |bytes: &mut [u8]| {
            for piece in bytes.chunks_mut(finite::PIECE) {
                file.read_exact(piece).map_err(at(path))?;
                is_finite &= !only_finite || finite::bytes(piece, dtype);
            }
            Ok::<_, Error>(())
        };
        let tensor = if dtype == DType::F32 {
            // Read to where it stays, without a second copy.
            let mut numbers = vec![0f32; count];
            fill(bytemuck::cast_slice_mut(&mut numbers))?;
            Tensor::from_vec(numbers, entry.shape.as_slice(), &Device::Cpu)?
        } else {
            let mut bytes = vec![0; entry.length];
            fill(&mut bytes)?;
            Tensor::from_raw_buffer(&bytes, dtype, &entry.shape, &Device::Cpu)?
        };
        if !is_finite {
            finite::check(name, &tensor)?;
        }
        Ok(tensor)
    }

    /// Whether two tensors have the same type, shape and bytes.
    pub fn are_equal(&mut self, a: &str, b: &str) -> Result<bool> {
        let (Some(a), Some(b)) = (self.entries.get(a), self.entries.get(b)) else { return Ok(false) };
        if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
            return Ok(false);
        }
        let mut pieces = [Vec::new(), Vec::new()];
        for start in (0..a.length).step_by(finite::PIECE) {
            for (piece, entry) in pieces.iter_mut().zip([a, b]) {
                piece.resize(finite::PIECE.min(entry.length - start), 0);
                let (path, file) = &mut self.files[entry.file];
                file.seek(SeekFrom::Start(entry.start + start as u64)).and_then(|_| file.read_exact(piece)).map_err(at(path))?;
            }
            if pieces[0] != pieces[1] {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What a folder without `model.safetensors` has in its place.
fn others(folder: &Path) -> Option<Error> {
    let names = std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names = names.filter(|name| name.ends_with(".gguf") || is_pickle(name)).collect::<Vec<_>>();
    names.sort();
    let found = names.into_iter().next()?;
    Some(Error::OtherWeights { path: folder.to_path_buf(), found })
}

fn is_pickle(name: &str) -> bool {
    let weights = name.starts_with("pytorch_model") || name.starts_with("consolidated") || name.starts_with("model");
    weights && [".bin", ".pt", ".pth", ".bin.index.json"].iter().any(|end| name.ends_with(end))
}

fn missing(path: PathBuf) -> Error {
    Error::File { path, problem: std::io::ErrorKind::NotFound.into() }
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
