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
    /// A prompt's mask is not as long as the prompt.
    #[error("prompt {prompt} of invoke {invoke} has {tokens} tokens and a mask for {mask}")]
    Mask {
        /// Which invoke.
        invoke: usize,
        /// Which of its prompts.
        prompt: usize,
        /// The number of tokens.
        tokens: usize,
        /// The number of entries of the mask.
        mask: usize,
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
    /// A new name is that of something else.
    #[error("`{name}` is already the name of something")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A module does not take what it is attached to.
    #[error("`{name}` takes {found}, and `{host}`, where it is to be attached, holds {holds}")]
    Guest {
        /// The module.
        name: String,
        /// What it takes.
        found: String,
        /// Where it is to be attached.
        host: String,
        /// What is there.
        holds: String,
    },
    /// A name does not denote what it should.
    #[error("`{name}` does not denote the right tensor on this model: {problem}")]
    WrongName {
        /// The name.
        name: String,
        /// What does not hold.
        problem: String,
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
    /// A graph uses an operation that this program does not have.
    #[error("{source_line}: no operation is registered as `{name}`{suggestion}; `register` makes one known")]
    NoOperation {
        /// Its name.
        name: String,
        /// The closest that exists.
        suggestion: String,
        /// Where it is used.
        source_line: Source,
    },
    /// A value comes after the place where the run is stopped.
    #[error("{source_line}: this is never reached: the run of its prompts is stopped at {stopped}")]
    AfterStop {
        /// Where it is stopped.
        stopped: Source,
        /// What comes after.
        source_line: Source,
    },
    /// A module is run whose attention lacks what earlier positions left behind, because it was skipped then.
    #[error(
        "{source_line}: `{module}` is skipped at step {step} and run at a later one, where its attention would lack the keys and values of the \
         positions before; skip it at every later step too, with `for step in model.steps({step}..)`"
    )]
    NoPast {
        /// The module.
        module: String,
        /// The step at which it is skipped.
        step: u32,
        /// Where.
        source_line: Source,
    },
    /// A file with a sweep's results is that of another sweep, or damaged.
    #[error("`{path}` does not hold the results of this sweep ({problem}): remove it, or name another file")]
    OtherSweep {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A sweep has nothing to go over.
    #[error("the sweep has no points")]
    NoPoints,
    /// A loop does not end.
    #[error("{source_line}: the loop went on after {limit} rounds")]
    Endless {
        /// The most that it may have.
        limit: u32,
        /// Where.
        source_line: Source,
    },
    /// Something cannot be done while a loop repeats.
    #[error("{source_line}: {what} has no place in a loop that runs with the model; let the loop give a value, and use that behind it")]
    InLoop {
        /// What.
        what: &'static str,
        /// Where.
        source_line: Source,
    },
    /// A cache was asked for what it does not hold.
    #[error("`{path}` was not kept{suggestion}")]
    NotCached {
        /// The path.
        path: String,
        /// The closest that was.
        suggestion: String,
    },
    /// Something has no place in an edit.
    #[error("{source_line}: this is no edit: {problem}")]
    Edit {
        /// Why.
        problem: String,
        /// Where.
        source_line: Source,
    },
    /// A file cannot be read or written.
    #[error("a file cannot be read or written: {0}")]
    File(#[from] std::io::Error),
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
    /// A generation has settings that mean nothing.
    #[error("these are no settings for a generation: {problem}")]
    Generation {
        /// Which.
        problem: String,
    },
    /// A step lies behind the last that a generation can have.
    #[error("{source_line}: there is no step {step}: the run has at most {steps}; `generate!(…, max_new_tokens = …)` sets how many")]
    NoStep {
        /// The step.
        step: i64,
        /// How many there are at most.
        steps: usize,
        /// Where.
        source_line: Source,
    },
    /// A generation ended before a step that is needed.
    #[error(
        "{source_line}: step {step} never happened: the run ended after {reached} steps; what every step gives is collected with \
         `model.steps(..).map(…)`, which is as long as the run was"
    )]
    StepNotReached {
        /// The step.
        step: u32,
        /// How many there were.
        reached: usize,
        /// Whether the program names this step, and not just all that there are.
        named: bool,
        /// Where it is used.
        source_line: Source,
    },
    /// The inside of a module is used that is skipped.
    #[error("{source_line}: `{site}` lies inside of `{module}`, which is skipped, so that its inside is not run")]
    InsideSkipped {
        /// The site.
        site: String,
        /// The module.
        module: String,
        /// Where.
        source_line: Source,
    },
    /// A gradient cannot arrive.
    #[error("{source_line}: no gradient arrives here: {reason}")]
    NoGradient {
        /// Why.
        reason: String,
        /// Where.
        source_line: Source,
    },
    /// The model handle failed: its tokenizer, say, or its connection.
    #[error(transparent)]
    Model(Box<dyn std::error::Error + Send + Sync>),
    /// Rows of different lengths are used as if each entry were every row's own.
    #[error(
        "{source_line}: {what} would mix padding in: the rows of this tensor have {lengths:?} entries. Take each by itself, with `.rows()` or \
         `.at(Batch, row)`, or count from the end (-1 is every row's last)"
    )]
    RowsDiffer {
        /// What was asked for.
        what: String,
        /// The numbers of entries of the rows.
        lengths: Vec<usize>,
        /// Where.
        source_line: Source,
    },
    /// A row is used at a step that comes after the end of its text.
    #[error(
        "{source_line}: {what} takes in row {row}, whose text had ended before this step; give each prompt an `invoke!` of its own, or save the \
         value itself and take the rows that `.present()` lists"
    )]
    RowEnded {
        /// What was asked for.
        what: String,
        /// The row.
        row: usize,
        /// Where.
        source_line: Source,
    },
    /// An index or a range lies outside of an axis.
    #[error(
        "{source_line}: {entries} is out of range for the axis {axis} of size {size}{}",
        row.map(|row| format!(" in row {row}")).unwrap_or_default()
    )]
    OutOfRange {
        /// The index or range.
        entries: String,
        /// The axis.
        axis: String,
        /// Its size.
        size: usize,
        /// The row, if rows differ.
        row: Option<usize>,
        /// Where.
        source_line: Source,
    },
    /// A tensor whose rows differ in length is put into a trace.
    #[error(
        "{source_line}: the rows of this tensor have {lengths:?} entries, and which prompts they would meet is not known: give each prompt an \
         `invoke!` of its own, and use `.at(Batch, row)` there"
    )]
    RowsIntoTrace {
        /// The numbers of entries of the rows.
        lengths: Vec<usize>,
        /// Where.
        source_line: Source,
    },
    /// What the points of a sweep end with has not the same sizes everywhere.
    #[error(
        "the values of this sweep have different sizes, {first:?} and {other:?}: let its block end with something of one size, such as \
         `.at(Seq, -1)`, or sweep over the prompts alone"
    )]
    PointsDiffer {
        /// The sizes at the first point.
        first: Vec<usize>,
        /// Those at another.
        other: Vec<usize>,
    },
    /// A sweep's results are to be kept in a file that has no place for the lengths of their rows.
    #[error(
        "the results of this sweep have rows of {lengths:?} entries, which a checkpoint does not hold: give each prompt a point of its own, or \
         let the block end with something of one size, such as `.at(Seq, -1)`"
    )]
    RowsIntoCheckpoint {
        /// The numbers of entries of the rows.
        lengths: Vec<usize>,
    },
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Of some words the one that comes closest to a wrong one, if any is close.
pub(crate) fn closest<'a>(words: impl IntoIterator<Item = &'a String>, wrong: &str) -> Option<String> {
    let close = words.into_iter().map(|word| (distance(word, wrong), word)).filter(|(distance, _)| *distance <= 3);
    close.min().map(|(_, word)| word.clone())
}

/// The number of letters to insert, delete or replace between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b = b.chars().collect::<Vec<_>>();
    let mut row = (0..=b.len()).collect::<Vec<_>>();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The end of a sentence that names something similar, where there is something.
pub(crate) fn did_you_mean(similar: Option<String>) -> String {
    similar.map(|path| format!("; there is `{path}`")).unwrap_or_default()
}
