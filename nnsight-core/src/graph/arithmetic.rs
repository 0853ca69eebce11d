//! What can be done with numbers.

pub use nnsight_kernels::{Binary, Unary};
use serde::{Deserialize, Serialize};

/// A comparison of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// `a == b`
    Eq,
    /// `a != b`
    Ne,
    /// `a < b`
    Lt,
    /// `a <= b`
    Le,
    /// `a > b`
    Gt,
    /// `a >= b`
    Ge,
}

/// A logical operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logic {
    /// Both.
    And,
    /// At least one.
    Or,
    /// The opposite of one value.
    Not,
}

/// A number made from the entries of an axis, or from all entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The unbiased variance, as in PyTorch.
    Var,
    /// The Euclidean norm.
    Norm,
    /// The index of the largest; over all entries the index into the flattened tensor.
    ArgMax,
    /// The index of the smallest.
    ArgMin,
}
