//! Everything that a node can do.

use serde::{Deserialize, Serialize};

use super::{At, Binary, Body, Compare, ConstantId, FunctionId, InvokeId, Logic, Reduce, Region, SiteId, Unary, Unused};
use crate::graph::KindTag;

/// What a node does with its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Reads a site.
    Get {
        /// For which prompts, at which step.
        at: At,
        /// Where.
        site: SiteId,
    },
    /// Writes the argument to a site. The model goes on with it.
    Set {
        /// For which prompts, at which step.
        at: At,
        /// Where.
        site: SiteId,
        /// Which part of the site.
        region: Region,
        /// What becomes of it where nothing that is saved depends on it.
        #[serde(default, skip_serializing_if = "Unused::is_refused")]
        unused: Unused,
    },
    /// Gives the argument as the output of a module, whose inside is not run.
    Skip {
        /// For which prompts, at which step.
        at: At,
        /// The module's output.
        site: SiteId,
        /// What becomes of it where nothing that is saved depends on it.
        #[serde(default, skip_serializing_if = "Unused::is_refused")]
        unused: Unused,
    },
    /// Stops the forward pass of these prompts after the given site.
    Stop {
        /// For which prompts, at which step.
        at: At,
        /// The last site that they reach.
        site: SiteId,
    },
    /// What came out of a rollout, once the run is over.
    #[serde(alias = "tokens")]
    Output {
        /// For which prompts.
        invoke: InvokeId,
    },
    /// The gradient of the second argument, a single number, with respect to the first.
    Grad,
    /// Replaces the gradient of the second argument with respect to the first by the third, on its way back.
    SetGrad,
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
    /// A logical operator.
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
    /// The first argument with the third written to those entries of an axis that the second, a list of indices, names.
    Scatter {
        /// Which axis.
        axis: usize,
    },
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
    /// Repeats a body. The arguments are those that its parameters stand for; [`Op::Item`] gives what it carries at the end.
    Loop(#[serde(deserialize_with = "super::serial::nested")] Box<Body>),
    /// One of the values that a loop ends with.
    Item {
        /// Which.
        index: usize,
    },
    /// A function of this program. A graph with one can neither be stored nor sent.
    Apply {
        /// Which of the graph's functions.
        function: FunctionId,
        /// Names and sizes of the result's axes; a size that is not known is that of the first argument's axis with the same name.
        axes: Vec<(String, Option<usize>)>,
        /// The result's kind.
        kind: KindTag,
    },
    /// An operation that a crate has registered under a name.
    Custom {
        /// The name.
        operation: String,
        /// Its settings.
        parameters: Vec<f64>,
        /// The names of the axes of what it is to give.
        names: Vec<String>,
    },
    /// The argument as a cache keeps it: in another type, or in the CPU's memory.
    Store {
        /// candle's name of the type, where it is to be another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dtype: Option<String>,
        /// Whether it is moved to the CPU's memory.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        host: bool,
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
            Op::Get { .. } | Op::Constant(_) | Op::Scalar(_) | Op::Output { .. } | Op::Stop { .. } => (0, 0),
            Op::Logic(Logic::Not) => (1, 1),
            Op::Set { .. }
            | Op::Skip { .. }
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
            | Op::Store { .. }
            | Op::Item { .. }
            | Op::Log { .. } => (1, 1),
            Op::Binary(_)
            | Op::Compare(_)
            | Op::Logic(_)
            | Op::MatMul
            | Op::Patch(_)
            | Op::Pick { .. }
            | Op::Gather { .. }
            | Op::IndexSelect { .. }
            | Op::Grad => (2, 2),
            Op::Where | Op::Choose | Op::SetGrad | Op::Scatter { .. } => (3, 3),
            Op::Loop(_) | Op::Cat { .. } | Op::Stack { .. } | Op::Apply { .. } | Op::Custom { .. } => (1, usize::MAX),
        }
    }

    /// Whether it does something beyond giving a value.
    pub fn has_effect(&self) -> bool {
        matches!(self, Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. } | Op::SetGrad | Op::Log { .. })
    }

    /// Whether it computes each entry of its result from those in the same place.
    pub fn is_element_wise(&self) -> bool {
        matches!(self, Op::Unary(_) | Op::Binary(_))
    }

    /// Its short name, as the text form writes it.
    pub fn name(&self) -> String {
        match self {
            Op::Get { .. } => "get".into(),
            Op::Set { .. } => "set".into(),
            Op::Skip { .. } => "skip".into(),
            Op::Stop { .. } => "stop".into(),
            Op::Output { .. } => "output".into(),
            Op::Grad => "grad".into(),
            Op::SetGrad => "set_grad".into(),
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
            Op::Scatter { .. } => "scatter".into(),
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
            Op::Loop(_) => "loop".into(),
            Op::Item { index } => format!("item {index} of"),
            Op::Apply { .. } => "apply".into(),
            Op::Custom { operation, .. } => operation.clone(),
            Op::Store { dtype, host } => format!("store({}{})", dtype.as_deref().unwrap_or("as it is"), if *host { ", host" } else { "" }),
            Op::Log { label } => format!("log {label:?}"),
        }
    }
}
