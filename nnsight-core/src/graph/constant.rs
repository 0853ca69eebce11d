//! Tensors that come into a graph from outside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use candle_core::{DType, Device, Tensor};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A tensor with names for its axes.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The axes' names, outermost first.
    pub names: Vec<String>,
    /// The entries.
    pub tensor: Tensor,
}

/// How a constant is stored: its entries as little-endian bytes.
#[derive(Serialize, Deserialize)]
struct Stored {
    names: Vec<String>,
    dtype: String,
    shape: Vec<usize>,
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    data: Vec<u8>,
}

fn write_bytes<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match serializer.is_human_readable() {
        true => serializer.serialize_str(&BASE64.encode(data)),
        false => serializer.serialize_bytes(data),
    }
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;
    impl<'de> serde::de::Visitor<'de> for Bytes {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes, or bytes as base64")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
            BASE64.decode(text).map_err(E::custom)
        }
        fn visit_bytes<E: serde::de::Error>(self, data: &[u8]) -> Result<Vec<u8>, E> {
            Ok(data.to_vec())
        }
    }
    match deserializer.is_human_readable() {
        true => deserializer.deserialize_str(Bytes),
        false => deserializer.deserialize_bytes(Bytes),
    }
}

/// The bytes of a tensor on the CPU.
fn bytes(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let flat = tensor.flatten_all()?.to_device(&Device::Cpu)?;
    Ok(match flat.dtype() {
        DType::U8 => flat.to_vec1::<u8>()?,
        DType::U32 => flat.to_vec1::<u32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::I64 => flat.to_vec1::<i64>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F64 => flat.to_vec1::<f64>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F32 => flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        _ => flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
    })
}

/// The type in which entries of `dtype` are stored.
fn stored_dtype(dtype: DType) -> DType {
    match dtype {
        DType::U8 | DType::U32 | DType::I64 | DType::F64 => dtype,
        _ => DType::F32,
    }
}

impl Serialize for Constant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored {
            names: self.names.clone(),
            dtype: stored_dtype(self.tensor.dtype()).as_str().to_string(),
            shape: self.tensor.dims().to_vec(),
            data: bytes(&self.tensor).map_err(serde::ser::Error::custom)?,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Constant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let dtype: DType = stored.dtype.parse().map_err(|_| D::Error::custom(format!("unknown type `{}` of a constant", stored.dtype)))?;
        if stored_dtype(dtype) != dtype {
            return Err(D::Error::custom(format!("constants are not stored as `{}`", stored.dtype)));
        }
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        // An axis without entries makes the product zero, and the strides of the others overflow all the same.
        let strides = product(&stored.shape.iter().map(|&size| size.max(1)).collect::<Vec<_>>());
        let length = strides.and(product(&stored.shape)).and_then(|entries| entries.checked_mul(dtype.size_in_bytes()));
        if length != Some(stored.data.len()) {
            return Err(D::Error::custom(format!(
                "a constant of shape {:?} and type {} has {} bytes",
                stored.shape,
                stored.dtype,
                stored.data.len()
            )));
        }
        let tensor = Tensor::from_raw_buffer(&stored.data, dtype, &stored.shape, &Device::Cpu).map_err(D::Error::custom)?;
        Ok(Constant { names: stored.names, tensor })
    }
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
            && self.tensor.dims() == other.tensor.dims()
            && self.tensor.dtype() == other.tensor.dtype()
            && matches!((bytes(&self.tensor), bytes(&other.tensor)), (Ok(a), Ok(b)) if a == b)
    }
}
