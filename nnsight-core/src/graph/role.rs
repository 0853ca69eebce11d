//! What an axis is to whatever runs a model.

use serde::{Deserialize, Serialize};

/// What the entries of an axis are to whatever runs a model. What an axis is called decides nothing: `dim!(pub Key = 64)` is a plain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AxisRole {
    /// Inputs side by side: the prompts of a batch.
    Row,
    /// The positions of an input.
    Position,
    /// The positions that attend.
    Query,
    /// The positions that are attended to, with those of earlier steps.
    Key,
    /// A single entry, which broadcasts against any number of them.
    One,
    /// Anything else.
    #[default]
    Plain,
}

impl AxisRole {
    /// The role of an axis that is known by its name alone, as in a graph: the names that this crate itself declares have theirs.
    pub fn of_name(name: &str) -> Self {
        match name {
            "Batch" => AxisRole::Row,
            "Seq" => AxisRole::Position,
            "Query" => AxisRole::Query,
            "Key" => AxisRole::Key,
            "One" => AxisRole::One,
            _ => AxisRole::Plain,
        }
    }

    /// Whether its entries are positions of a pass: at a later step of a generation there is one.
    pub fn is_of_pass(self) -> bool {
        matches!(self, AxisRole::Position | AxisRole::Query)
    }

    /// Whether its entries are positions at all.
    pub fn is_of_positions(self) -> bool {
        matches!(self, AxisRole::Position | AxisRole::Query | AxisRole::Key)
    }
}
