//! The kind of a value as data.

use candle_core::DType;

/// A kind as data, as a graph stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindTag {
    /// Floating-point numbers in the model's own type.
    Float,
    /// Whole numbers (64 bits), such as token ids.
    Int,
    /// Booleans.
    Bool,
}

impl KindTag {
    /// The kind's name as it is written in Rust.
    pub fn name(self) -> &'static str {
        match self {
            KindTag::Float => "Float",
            KindTag::Int => "Int",
            KindTag::Bool => "Bool",
        }
    }
}

/// What kind of entries a candle type holds.
pub(crate) fn kind_of(dtype: DType) -> KindTag {
    match dtype {
        DType::U8 => KindTag::Bool,
        DType::U32 | DType::I64 | DType::I32 | DType::I16 => KindTag::Int,
        _ => KindTag::Float,
    }
}
