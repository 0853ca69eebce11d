//! What a model is run on, as data.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

use super::{Constant, not_finite};
use crate::Result;

/// One input of a model, a row of a batch: parts by name, which the model's kind knows how to read. A text has one part, a latent with a time step
/// and a text encoding has three.
///
/// # Examples
/// ```
/// use nnsight_core::graph::{Input, InputPart};
/// let input = Input::new("text", InputPart::Text("The Eiffel Tower".into())).with("seed", InputPart::Ids(vec![7]));
/// assert_eq!(input.to_string(), "seed [7], text \"The Eiffel Tower\"");
/// assert_eq!(input.part("image"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Input {
    parts: BTreeMap<String, InputPart>,
}

/// A part of an input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputPart {
    /// Text.
    Text(String),
    /// Whole numbers, such as ids of words.
    Ids(Vec<u32>),
    /// For each of some entries whether it is.
    Flags(Vec<bool>),
    /// Numbers with named axes.
    Tensor(Constant),
    /// Whatever else has fields.
    Record(serde_json::Value),
}

/// What an input is compared by, if it holds no tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Comparable<'a>(Vec<(&'a str, ComparablePart<'a>)>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ComparablePart<'a> {
    Text(&'a str),
    Ids(&'a [u32]),
    Flags(&'a [bool]),
    Record(&'a serde_json::Value),
}

impl Input {
    /// An input of one part.
    pub fn new(name: impl Into<String>, part: InputPart) -> Self {
        Input { parts: BTreeMap::from([(name.into(), part)]) }
    }

    /// With a further part.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, part: InputPart) -> Self {
        self.parts.insert(name.into(), part);
        self
    }

    /// A part by its name.
    pub fn part(&self, name: &str) -> Option<&InputPart> {
        self.parts.get(name)
    }

    /// All parts, by their names.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (&str, &InputPart)> {
        self.parts.iter().map(|(name, part)| (name.as_str(), part))
    }

    /// Entries and bytes of all that it holds, one for each part included.
    pub(crate) fn size(&self) -> usize {
        self.parts.iter().map(|(name, part)| part.size().saturating_add(name.len())).fold(0, usize::saturating_add)
    }

    pub(crate) fn comparable(&self) -> Option<Comparable<'_>> {
        let parts = self.parts().map(|(name, part)| Some((name, part.comparable()?)));
        parts.collect::<Option<_>>().map(Comparable)
    }

    /// What the entries of its tensors come to, if they are not all finite.
    pub(crate) fn not_finite(&self) -> Result<Option<f64>> {
        for part in self.parts.values() {
            if let InputPart::Tensor(constant) = part
                && let Some(number) = not_finite(&constant.tensor)?
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

impl InputPart {
    fn comparable(&self) -> Option<ComparablePart<'_>> {
        match self {
            InputPart::Text(text) => Some(ComparablePart::Text(text)),
            InputPart::Ids(ids) => Some(ComparablePart::Ids(ids)),
            InputPart::Flags(flags) => Some(ComparablePart::Flags(flags)),
            InputPart::Record(record) => Some(ComparablePart::Record(record)),
            InputPart::Tensor(_) => None,
        }
    }

    fn size(&self) -> usize {
        1 + match self {
            InputPart::Text(text) => text.len(),
            InputPart::Ids(ids) => ids.len(),
            InputPart::Flags(flags) => flags.len(),
            InputPart::Tensor(constant) => constant.tensor.elem_count(),
            InputPart::Record(record) => size(record),
        }
    }
}

/// Bytes of the texts of a record, and one for each value.
pub(super) fn size(record: &serde_json::Value) -> usize {
    use serde_json::Value;
    1 + match record {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
    }
}

impl Display for Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (index, (name, part)) in self.parts().enumerate() {
            if self.parts.len() > 1 {
                write!(f, "{}{name} ", if index == 0 { "" } else { ", " })?;
            }
            match part {
                InputPart::Text(text) => write!(f, "{text:?}")?,
                InputPart::Ids(ids) => write!(f, "{ids:?}")?,
                InputPart::Flags(flags) => write!(f, "{:?}", flags.iter().map(|&flag| u8::from(flag)).collect::<Vec<_>>())?,
                InputPart::Tensor(constant) => write!(f, "{:?}", constant.tensor.dims())?,
                InputPart::Record(record) => write!(f, "{record}")?,
            }
        }
        Ok(())
    }
}
