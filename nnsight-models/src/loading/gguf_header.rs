//! The header of a GGUF file: its metadata, and where which tensor lies.
//!
//! candle reads headers too, and divides by an alignment of zero, lets sizes overflow and names quantisations by number. What is read here is handed to it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::Shape;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, DEFAULT_ALIGNMENT, TensorInfo, Value, VersionedMagic};

use crate::{Error, Result};

/// Values in all arrays together: vocabularies and merges have less than a million. Each takes more room in memory than in the file.
const VALUES: u64 = 1 << 24;

/// Arrays within arrays.
const DEPTH: usize = 4;

/// The longest text.
const TEXT: u64 = 64 << 20;

struct Header<'a> {
    file: &'a mut BufReader<File>,
    path: &'a Path,
    size: u64,
    /// Bytes read so far.
    read: u64,
    /// Values in arrays so far.
    values: u64,
    version: u32,
}

/// Reads the header of a file of `size` bytes.
pub fn read(file: &mut BufReader<File>, path: &Path, size: u64) -> Result<Content> {
    let mut header = Header { file, path, size, read: 0, values: 0, version: 3 };
    if header.bytes()? != *b"GGUF" {
        return Err(header.damaged("it does not begin with `GGUF`".into()));
    }
    header.version = u32::from_le_bytes(header.bytes()?);
    let magic = match header.version {
        1 => VersionedMagic::GgufV1,
        2 => VersionedMagic::GgufV2,
        3 => VersionedMagic::GgufV3,
        other => return Err(header.damaged(format!("it is of version {other}; 1 to 3 can be read, of little-endian machines"))),
    };
    let (tensors, entries) = (header.length()?, header.length()?);
    // An entry takes at least eight bytes.
    if tensors.saturating_add(entries).saturating_mul(8) > size {
        return Err(header.damaged(format!("it is said to have {tensors} tensors and {entries} entries in {size} bytes")));
    }
    let mut metadata = HashMap::new();
    for _ in 0..entries {
        let key = header.text()?;
        let kind = header.number()?;
        let value = header.value(kind, 0)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(header.damaged(format!("it has `{key}` twice")));
        }
    }
    let mut tensor_infos = HashMap::new();
    for _ in 0..tensors {
        let (name, info) = header.tensor()?;
        if tensor_infos.insert(name.clone(), info).is_some() {
            return Err(header.damaged(format!("it has the tensor `{name}` twice")));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(value) => match whole(value) {
            Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => alignment,
            _ => return Err(header.damaged(format!("its `general.alignment` is {value:?}, which is not a power of two"))),
        },
    };
    let tensor_data_offset = header.read.next_multiple_of(alignment);
    for (name, info) in &tensor_infos {
        let end = length(info).and_then(|bytes| bytes.checked_add(info.offset)?.checked_add(tensor_data_offset));
        if end.is_none_or(|end| end > size) {
            return Err(header.damaged(format!("the tensor `{name}` lies outside of the file, which may have been cut off")));
        }
    }
    Ok(Content { magic, metadata, tensor_infos, tensor_data_offset })
}

/// The bytes of a tensor, if they can be counted.
fn length(info: &TensorInfo) -> Option<u64> {
    let entries = info.shape.dims().iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
    let bytes = (entries / info.ggml_dtype.block_size().max(1)).checked_mul(info.ggml_dtype.type_size())?;
    // Dequantized, an entry has four bytes.
    entries.checked_mul(4).filter(|&bytes| isize::try_from(bytes).is_ok())?;
    u64::try_from(bytes).ok()
}

/// A whole number that is not negative.
pub fn whole(value: &Value) -> Option<u64> {
    match *value {
        Value::U8(number) => Some(u64::from(number)),
        Value::U16(number) => Some(u64::from(number)),
        Value::U32(number) => Some(u64::from(number)),
        Value::U64(number) => Some(number),
        Value::I8(number) => u64::try_from(number).ok(),
        Value::I16(number) => u64::try_from(number).ok(),
        Value::I32(number) => u64::try_from(number).ok(),
        Value::I64(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

impl Header<'_> {
    fn damaged(&self, problem: String) -> Error {
        Error::Format { path: self.path.to_path_buf(), format: "GGUF", problem }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes).map_err(|_| self.damaged("its header ends too early; it may have been cut off".into()))?;
        self.read += bytes.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    /// A length, which the first version has in fewer bits.
    fn length(&mut self) -> Result<u64> {
        match self.version {
            1 => Ok(u64::from(self.number()?)),
            _ => Ok(u64::from_le_bytes(self.bytes()?)),
        }
    }

    fn text(&mut self) -> Result<String> {
        let length = self.length()?;
        if length > TEXT.min(self.size - self.read.min(self.size)) {
            return Err(self.damaged(format!("a text of {length} bytes does not fit into it")));
        }
        let mut text = vec![0; length as usize];
        self.fill(&mut text)?;
        // Some writers end texts with a zero, as C does.
        while text.last() == Some(&0) {
            text.pop();
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            4 => Value::U32(self.number()?),
            5 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            7 => Value::Bool(self.bytes()? != [0u8]),
            8 => Value::String(self.text()?),
            9 => Value::Array(self.array(depth)?),
            10 => Value::U64(u64::from_le_bytes(self.bytes()?)),
            11 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes()?)),
            other => return Err(self.damaged(format!("it has a value of the unknown kind {other}"))),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value>> {
        let (kind, count) = (self.number()?, self.length()?);
        self.values = self.values.saturating_add(count);
        if depth >= DEPTH || self.values > VALUES || count > self.size {
            return Err(self.damaged(format!("an array of {count} values, {depth} deep, is more than any model has")));
        }
        (0..count).map(|_| self.value(kind, depth + 1)).collect()
    }

    fn tensor(&mut self) -> Result<(String, TensorInfo)> {
        let name = self.text()?;
        let rank = self.number()?;
        if rank > 4 {
            return Err(self.damaged(format!("the tensor `{name}` has {rank} axes; there are at most 4")));
        }
        let sizes = (0..rank).map(|_| self.length()).collect::<Result<Vec<_>>>()?;
        // Written from the innermost to the outermost.
        let shape = sizes.into_iter().rev().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect::<Vec<_>>();
        let (kind, offset) = (self.number()?, u64::from_le_bytes(self.bytes()?));
        let ggml_dtype = dtype(kind).map_err(|found| Error::Quantization { path: self.path.to_path_buf(), tensor: name.clone(), found })?;
        let block = ggml_dtype.block_size().max(1);
        if shape.last().is_some_and(|row| !row.is_multiple_of(block)) {
            return Err(self.damaged(format!("the tensor `{name}` has the shape {shape:?}, whose rows are not whole blocks of {block}")));
        }
        Ok((name, TensorInfo { ggml_dtype, shape: Shape::from(shape), offset }))
    }
}

/// The type with a number, or its name if it is one that is not read.
fn dtype(number: u32) -> std::result::Result<GgmlDType, String> {
    use GgmlDType::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8_1, Q8K};
    let name = match number {
        0 => return Ok(F32),
        1 => return Ok(F16),
        2 => return Ok(Q4_0),
        3 => return Ok(Q4_1),
        6 => return Ok(Q5_0),
        7 => return Ok(Q5_1),
        8 => return Ok(Q8_0),
        9 => return Ok(Q8_1),
        10 => return Ok(Q2K),
        11 => return Ok(Q3K),
        12 => return Ok(Q4K),
        13 => return Ok(Q5K),
        14 => return Ok(Q6K),
        15 => return Ok(Q8K),
        30 => return Ok(BF16),
        4 => "Q4_2",
        5 => "Q4_3",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        other => return Err(format!("type {other}")),
    };
    Err(name.to_string())
}
