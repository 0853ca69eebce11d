//! Everything that a node can do.

use serde::{Deserialize, Serialize};

use super::{ConstantId, InvokeId, Region, SiteId};
use crate::types::KindTag;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unary {
    /// `-x`
    Neg,
    /// `e^x`
    Exp,
    /// Natural logarithm.
    Ln,
    /// Square root.
    Sqrt,
    /// `x * x`
    Sqr,
    /// Absolute value.
    Abs,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// GELU in its tanh approximation (`gelu_new`).
    Gelu,
    /// `x * sigmoid(x)`
    Silu,
    /// `max(x, 0)`
    Relu,
    /// `1 / x`
    Recip,
    /// `x` to a power.
    Powf(f64),
    /// `x`, but at least the first and at most the second number.
    Clamp(f64, f64),
}

/// Arithmetic on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// The larger of both.
    Maximum,
    /// The smaller of both.
    Minimum,
}

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

/// A connective of truth values.
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

/// What a node does with its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Reads a site.
    Get {
        /// For which prompts.
        invoke: InvokeId,
        /// Where.
        site: SiteId,
    },
    /// Writes the argument to a site. The model goes on with it.
    Set {
        /// For which prompts.
        invoke: InvokeId,
        /// Where.
        site: SiteId,
        /// Which part of the site.
        region: Region,
        /// Whether the edit is wanted even where nothing that is saved depends on it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        effect: bool,
    },
    /// A tensor from outside.
    Constant(ConstantId),
    /// A number.
    Scalar(f64),
    /// A function of every entry.
    Unary(Unary),
    /// Arithmetic, the second argument broadcast to the first or a number the other way round.
    Binary(Binary),
    /// A comparison.
    Compare(Compare),
    /// A connective of truth values.
    Logic(Logic),
    /// One number from the entries of an axis, or of all.
    Reduce {
        /// Which number.
        reduce: Reduce,
        /// Along which axis, or `None` for all entries.
        axis: Option<usize>,
        /// Whether the axis stays with one entry.
        keep: bool,
    },
    /// Probabilities along an axis.
    Softmax {
        /// Which axis.
        axis: usize,
        /// Whether their logarithms.
        log: bool,
    },
    /// Running sum along an axis.
    CumSum {
        /// Which axis.
        axis: usize,
    },
    /// The matrix product of the two innermost axes.
    MatMul,
    /// The axes in another order: the axis `order[i]` comes to stand at `i`.
    Permute {
        /// The order.
        order: Vec<usize>,
        /// The axes' names afterwards.
        names: Vec<String>,
    },
    /// One axis as two.
    Split {
        /// Which axis.
        axis: usize,
        /// Names and sizes; one of the sizes may be open.
        into: [(String, Option<usize>); 2],
    },
    /// An axis and its right neighbour as one.
    Merge {
        /// The left of the two.
        axis: usize,
        /// Its name afterwards.
        name: String,
    },
    /// Another name for an axis.
    Rename {
        /// Which axis.
        axis: usize,
        /// Its name afterwards.
        name: String,
    },
    /// A part of the argument.
    Slice(Region),
    /// The first argument with the second written into a part of it.
    Patch(Region),
    /// One entry of an axis for each of the others, given by the second argument, which lacks the axis.
    Pick {
        /// Which axis.
        axis: usize,
    },
    /// Entries of an axis, given by the second argument, which has the same rank.
    Gather {
        /// Which axis.
        axis: usize,
    },
    /// Entries of an axis, given by the second argument, which has one axis.
    IndexSelect {
        /// Which axis.
        axis: usize,
    },
    /// The arguments one after the other along an axis.
    Cat {
        /// Which axis.
        axis: usize,
    },
    /// The arguments side by side along a new outermost axis.
    Stack {
        /// The new axis' name.
        name: String,
    },
    /// The second argument where the first is true, else the third.
    Where,
    /// The argument of the branch that was run: the second where the first is true, else the third.
    Choose,
    /// The `k` largest entries of the innermost axis, best first.
    TopK {
        /// How many.
        k: usize,
        /// Whether their indices.
        indices: bool,
    },
    /// A new innermost axis with 1 at the argument's entry and 0 elsewhere.
    OneHot {
        /// The new axis' name.
        name: String,
        /// Its size.
        size: usize,
    },
    /// The argument's shape filled with one number.
    Full(f64),
    /// The argument's shape filled with numbers from the standard normal distribution.
    Randn {
        /// The same seed gives the same numbers.
        seed: u64,
    },
    /// The argument as another kind.
    Cast(KindTag),
    /// The argument put through a module of the model.
    Call {
        /// The module's path.
        module: String,
    },
    /// Prints the argument when it is computed, and passes it on.
    Log {
        /// What to call it.
        label: String,
    },
}

impl Op {
    /// How many arguments it takes, as `(at least, at most)`.
    pub fn arity(&self) -> (usize, usize) {
        match self {
            Op::Get { .. } | Op::Constant(_) | Op::Scalar(_) => (0, 0),
            Op::Logic(Logic::Not) => (1, 1),
            Op::Set { .. }
            | Op::Unary(_)
            | Op::Reduce { .. }
            | Op::Softmax { .. }
            | Op::CumSum { .. }
            | Op::Permute { .. }
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Rename { .. }
            | Op::Slice(_)
            | Op::TopK { .. }
            | Op::OneHot { .. }
            | Op::Full(_)
            | Op::Randn { .. }
            | Op::Cast(_)
            | Op::Call { .. }
            | Op::Log { .. } => (1, 1),
            Op::Binary(_)
            | Op::Compare(_)
            | Op::Logic(_)
            | Op::MatMul
            | Op::Patch(_)
            | Op::Pick { .. }
            | Op::Gather { .. }
            | Op::IndexSelect { .. } => (2, 2),
            Op::Where | Op::Choose => (3, 3),
            Op::Cat { .. } | Op::Stack { .. } => (1, usize::MAX),
        }
    }

    /// Whether it does something beyond giving a value.
    pub fn has_effect(&self) -> bool {
        matches!(self, Op::Set { .. } | Op::Log { .. })
    }

    /// Its short name, as the text form writes it.
    pub fn name(&self) -> String {
        match self {
            Op::Get { .. } => "get".into(),
            Op::Set { .. } => "set".into(),
            Op::Constant(_) => "constant".into(),
            Op::Scalar(_) => "scalar".into(),
            Op::Unary(Unary::Powf(exponent)) => format!("powf({exponent})"),
            Op::Unary(Unary::Clamp(low, high)) => format!("clamp({low}, {high})"),
            Op::Unary(unary) => format!("{unary:?}").to_lowercase(),
            Op::Binary(binary) => format!("{binary:?}").to_lowercase(),
            Op::Compare(compare) => format!("{compare:?}").to_lowercase(),
            Op::Logic(logic) => format!("{logic:?}").to_lowercase(),
            Op::Reduce { reduce, .. } => format!("{reduce:?}").to_lowercase(),
            Op::Softmax { log: false, .. } => "softmax".into(),
            Op::Softmax { log: true, .. } => "log_softmax".into(),
            Op::CumSum { .. } => "cumsum".into(),
            Op::MatMul => "matmul".into(),
            Op::Permute { .. } => "permute".into(),
            Op::Split { .. } => "split".into(),
            Op::Merge { .. } => "merge".into(),
            Op::Rename { .. } => "rename".into(),
            Op::Slice(_) => "slice".into(),
            Op::Patch(_) => "patch".into(),
            Op::Pick { .. } => "pick".into(),
            Op::Gather { .. } => "gather".into(),
            Op::IndexSelect { .. } => "index_select".into(),
            Op::Cat { .. } => "cat".into(),
            Op::Stack { .. } => "stack".into(),
            Op::Where => "where".into(),
            Op::Choose => "choose".into(),
            Op::TopK { indices: false, .. } => "topk".into(),
            Op::TopK { indices: true, .. } => "topk_indices".into(),
            Op::OneHot { .. } => "one_hot".into(),
            Op::Full(value) => format!("full({value})"),
            Op::Randn { seed } => format!("randn({seed})"),
            Op::Cast(kind) => format!("cast({})", kind.name()),
            Op::Call { module } => format!("call {module}"),
            Op::Log { label } => format!("log {label:?}"),
        }
    }
}
