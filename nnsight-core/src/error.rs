//! Everything that can go wrong between a trace and its result.

use crate::graph::Source;

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not have the shape that its type says.
    #[error("expected a tensor of shape {expected}, found {found:?}")]
    TensorShape {
        /// Names and sizes.
        expected: String,
        /// Sizes.
        found: Vec<usize>,
    },
    /// A tensor's entries are of another kind than its type says.
    #[error("expected entries of kind `{expected}`, found `{found}`")]
    TensorKind {
        /// The kind.
        expected: &'static str,
        /// candle's type.
        found: &'static str,
    },
    /// A stored graph has a version that this program does not read.
    #[error("the graph has version {found}; this program reads version {known}")]
    GraphVersion {
        /// The graph's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// A stored graph is not one.
    #[error("this is not a graph: {0}")]
    GraphFormat(String),
    /// A graph is larger than the limits.
    #[error("the graph has {found} {what}; at most {limit} are allowed")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How much.
        found: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// An id of a graph points nowhere, or forward.
    #[error("{what} {id}{} does not exist, or stands after its use", node.map(|node| format!(" of node {node}")).unwrap_or_default())]
    Dangling {
        /// What the id should denote.
        what: &'static str,
        /// The id.
        id: u32,
        /// The node that uses it.
        node: Option<u32>,
    },
    /// A node has too few or too many arguments.
    #[error("{source_line}: `{op}` (node {node}) cannot take {found} arguments")]
    Arity {
        /// The node.
        node: u32,
        /// What it does.
        op: String,
        /// The number of its arguments.
        found: usize,
        /// Where it comes from.
        source_line: Source,
    },
    /// A constant is NaN or infinite.
    #[error("{source_line}: a constant of the trace is {number}; use a large finite number instead, such as -1e9 for a mask")]
    NotFinite {
        /// The number.
        number: f64,
        /// Where it comes from.
        source_line: Source,
    },
    /// An invoke has no prompt.
    #[error("invoke {invoke} has no prompt")]
    EmptyInvoke {
        /// Which.
        invoke: usize,
    },
    /// A prompt has no tokens.
    #[error("prompt {prompt} of invoke {invoke} is empty; a model needs at least one token")]
    EmptyPrompt {
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
    },
    /// A prompt is longer than the model can read.
    #[error("prompt {prompt} of invoke {invoke} has {found} tokens; `{model}` reads at most {limit}")]
    PromptTooLong {
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
        /// Its tokens.
        found: usize,
        /// The model's context.
        limit: usize,
        /// The model.
        model: String,
    },
    /// A token id does not exist.
    #[error("token {token} of prompt {prompt}, invoke {invoke}, is not in the vocabulary of `{model}` (0 to {})", vocab - 1)]
    UnknownToken {
        /// The id.
        token: u32,
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
        /// The size of the vocabulary.
        vocab: usize,
        /// The model.
        model: String,
    },
    /// The graph was traced on another model.
    #[error("the graph was traced on `{graph}` and cannot be run on `{model}`")]
    OtherModel {
        /// The graph's signature.
        graph: String,
        /// The model's.
        model: String,
    },
    /// A model has no such layer.
    #[error("{source_line}: `{path}` has {layers} layers, and so no layer {index}")]
    NoLayer {
        /// The list.
        path: String,
        /// The index.
        index: i64,
        /// How many there are.
        layers: usize,
        /// Where it was asked for.
        source_line: Source,
    },
    /// A model has no such site.
    #[error("{source_line}: the model has no site `{path}`{suggestion}")]
    NoSite {
        /// The path.
        path: String,
        /// The closest that exists.
        suggestion: String,
        /// Where it was asked for.
        source_line: Source,
    },
    /// A model has no such module, or none that can be applied by hand.
    #[error("{source_line}: the model has no module `{path}` that could be applied by hand{suggestion}")]
    NoModule {
        /// The path.
        path: String,
        /// The closest that exists.
        suggestion: String,
        /// Where it was asked for.
        source_line: Source,
    },
    /// A site was used outside of any prompt.
    #[error("{source_line}: `{site}` is used outside of any prompt; give the trace one, or use the site inside of `invoke!`")]
    NoPrompt {
        /// The site.
        site: String,
        /// Where.
        source_line: Source,
    },
    /// Ranks, sizes or kinds do not fit.
    #[error("{source_line}: `{op}`: {problem}")]
    Mismatch {
        /// What was asked for.
        op: String,
        /// Why that is not possible.
        problem: String,
        /// Where.
        source_line: Source,
    },
    /// Prompts of different lengths are treated as if a position were the same token in each.
    #[error(
        "{source_line}: `{op}` along {axis} of prompts of different lengths would mix in padding or shift positions; count from the end \
         (-1 is every prompt's last token), or give each prompt an `invoke!` of its own"
    )]
    Ragged {
        /// What was asked for.
        op: String,
        /// Along which axis.
        axis: String,
        /// Where.
        source_line: Source,
    },
    /// A site is set from a value that does not exist yet.
    #[error("{source_line}: the value comes from `{from}`, which runs after `{to}`")]
    TooLate {
        /// Where the value is read.
        from: String,
        /// Where it is written.
        to: String,
        /// Where in the program.
        source_line: Source,
    },
    /// Invokes need each other's values.
    #[error("invokes {members:?} need each other's values in a circle, so that none can run first: {detail}")]
    Circle {
        /// The invokes.
        members: Vec<usize>,
        /// Which sites are involved.
        detail: String,
    },
    /// An edit reaches nothing that is saved.
    #[error(
        "{source_line}: the edit of `{site}` has no effect on anything that is saved: {reason}; if it is wanted all the same, write `effect(…) = …`"
    )]
    NoEffect {
        /// The site.
        site: String,
        /// Why.
        reason: String,
        /// Where.
        source_line: Source,
    },
    /// A value of a branch is used outside of it.
    #[error("{source_line}: this uses a value from inside of a branch, which may not be run; let the `if` give a value in both branches")]
    OutsideBranch {
        /// Where.
        source_line: Source,
    },
    /// The model did not pass a site that the trace uses.
    #[error("{source_line}: the model did not pass `{site}` in this run")]
    NotPassed {
        /// The site.
        site: String,
        /// Where.
        source_line: Source,
    },
    /// The model passed its sites in another order than it declares.
    #[error("the model passed `{site}` out of the order in which it declares its sites")]
    OutOfOrder {
        /// The site.
        site: String,
    },
    /// A computation failed.
    #[error("{source_line}: `{op}` failed: {problem}")]
    Compute {
        /// What was computed.
        op: String,
        /// What candle says.
        problem: String,
        /// Where.
        source_line: Source,
    },
    /// A branch on a value was left early.
    #[error("{source_line}: a branch on a traced value cannot be left with `break` or `continue`: both branches are recorded before anything runs")]
    OpenBranch {
        /// Where the condition is.
        source_line: Source,
    },
    /// Two traces were mixed.
    #[error("{source_line}: this value belongs to another trace")]
    OtherTrace {
        /// Where.
        source_line: Source,
    },
    /// candle failed in the model.
    #[error("the model failed: {0}")]
    Candle(#[from] candle_core::Error),
    /// The model handle failed: its tokenizer, say, or its connection.
    #[error(transparent)]
    Model(Box<dyn std::error::Error + Send + Sync>),
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The end of a sentence that names something similar, where there is something.
pub(crate) fn did_you_mean(similar: Option<String>) -> String {
    similar.map(|path| format!("; there is `{path}`")).unwrap_or_default()
}
