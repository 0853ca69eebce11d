//! Everything that can go wrong between a trace and its result.

use super::brief::brief;
use super::place::at;
use super::source::Source;

/// What went wrong, and what to do about it.
///
/// Printed with `{}` it is one line: the place in the program, the sentence, what to write instead. Printed with `{:?}`, as `main` prints what
/// it returns, it is a [`Report`](crate::Report) with the line of code itself.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not have the shape that its type says.
    #[error("{}expected a tensor of shape {expected}, found {found:?}{}", at(.source_line), self.then())]
    TensorShape {
        /// Names and sizes.
        expected: String,
        /// Sizes.
        found: Vec<usize>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A tensor's entries are of another kind than its type says.
    #[error("{}expected entries of kind `{expected}`, found `{found}`{}", at(.source_line), self.then())]
    TensorKind {
        /// The kind.
        expected: &'static str,
        /// candle's type.
        found: &'static str,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A stored graph has a version that this program does not read.
    #[error("{}the graph has version {found}; this program reads version {known}{}", at(.source_line), self.then())]
    GraphVersion {
        /// The graph's.
        found: u32,
        /// This program's.
        known: u32,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A stored graph is not one.
    #[error("{}this is not a graph: {problem}{}", at(.source_line), self.then())]
    GraphFormat {
        /// What is wrong with it.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A graph is larger than the limits.
    #[error("{}the graph has {found} {what}; at most {limit} are allowed{}", at(.source_line), self.then())]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How much.
        found: usize,
        /// How much is allowed.
        limit: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An id of a graph points nowhere, or forward.
    #[error(
        "{}{what} {id}{} does not exist, or stands after its use{}",
        at(.source_line), .node.map(|node| format!(" of node {node}")).unwrap_or_default(),
        self.then()
    )]
    Dangling {
        /// What the id should denote.
        what: &'static str,
        /// The id.
        id: u32,
        /// The node that uses it.
        node: Option<u32>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A node has too few or too many arguments.
    #[error("{}`{op}` (node {node}) cannot take {found} arguments{}", at(.source_line), self.then())]
    Arity {
        /// The node.
        node: u32,
        /// What it does.
        op: String,
        /// The number of its arguments.
        found: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A constant is NaN or infinite.
    #[error("{}a constant of the trace is {number}{}", at(.source_line), self.then())]
    NotFinite {
        /// The number.
        number: f64,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An invoke has no prompt.
    #[error("{}invoke {invoke} has no prompt{}", at(.source_line), self.then())]
    EmptyInvoke {
        /// Which.
        invoke: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An input has no positions.
    #[error("{}input {input} of invoke {invoke} is empty{}", at(.source_line), self.then())]
    EmptyInput {
        /// Which invoke.
        invoke: usize,
        /// Which of its inputs.
        input: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A module looks for a batch of another kind of models.
    #[error("{}a module looks for a `{expected}` in a pass that is given something else{}", at(.source_line), self.then())]
    OtherBatch {
        /// The type of the batch.
        expected: &'static str,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An input is not one that the model can be run on.
    #[error("{}{problem}{}", at(.source_line), self.then())]
    Input {
        /// What is wrong with it.
        problem: Box<dyn InputProblem>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// The graph was traced on another model.
    #[error("{}the graph was traced on `{graph}` and cannot be run on `{model}`{}", at(.source_line), self.then())]
    OtherModel {
        /// The graph's signature.
        graph: String,
        /// The model's.
        model: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A model has no such layer.
    #[error("{}`{path}` has {layers} layers, and so no layer {index}{}", at(.source_line), self.then())]
    NoLayer {
        /// The list.
        path: String,
        /// The index.
        index: i64,
        /// How many there are.
        layers: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A model has no such site.
    #[error("{}the model has no site `{path}`{}", at(.source_line), self.then())]
    NoSite {
        /// The path.
        path: String,
        /// The closest that exists.
        suggestion: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A new name is that of something else.
    #[error("{}`{name}` is already the name of something{}", at(.source_line), self.then())]
    NameTaken {
        /// The name.
        name: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A module does not take what it is attached to.
    #[error("{}cannot attach `{name}` to `{target}`: expected {found}, found {holds}{}", at(.source_line), self.then())]
    Attachment {
        /// The module.
        name: Box<str>,
        /// What it takes.
        found: Box<str>,
        /// Where it is to be attached.
        target: Box<str>,
        /// What is there.
        holds: Box<str>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A name does not denote what it should.
    #[error("{}`{name}` does not denote the right tensor on this model: {problem}{}", at(.source_line), self.then())]
    WrongName {
        /// The name.
        name: String,
        /// What does not hold.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A model has no such module, or none that can be applied by hand.
    #[error("{}the model has no module `{path}` that could be applied by hand{}", at(.source_line), self.then())]
    NoModule {
        /// The path.
        path: String,
        /// The closest that exists.
        suggestion: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A graph uses an operation that this program does not have.
    #[error("{}no operation is registered as `{name}`{}", at(.source_line), self.then())]
    NoOperation {
        /// Its name.
        name: String,
        /// The closest that exists.
        suggestion: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A value comes after the place where the run is stopped.
    #[error(
        "{}this is never reached: the run of its prompts is stopped{}{}",
        at(.source_line), .stopped.as_ref().map(|place| format!(" at {place}")).unwrap_or_default(),
        self.then()
    )]
    AfterStop {
        /// Where it is stopped.
        stopped: Option<Source>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A module is run whose attention lacks what earlier positions left behind, because it was skipped then.
    #[error(
        "{}`{module}` is skipped at step {step} and run at a later one, where its attention would lack the keys and values of the positions before{}",
        at(.source_line),
        self.then()
    )]
    MissingState {
        /// The module.
        module: String,
        /// The step at which it is skipped.
        step: u32,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A file with a sweep's results is that of another sweep, or damaged.
    #[error("{}`{path}` does not hold the results of this sweep ({problem}){}", at(.source_line), self.then())]
    OtherSweep {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A sweep has nothing to go over.
    #[error("{}the sweep has no points{}", at(.source_line), self.then())]
    NoPoints {
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A loop does not end.
    #[error("{}loop exceeded {limit} iterations{}", at(.source_line), self.then())]
    Endless {
        /// The most that it may have.
        limit: u32,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// Something cannot be done while a loop repeats.
    #[error("{}{what} is not allowed inside a traced loop{}", at(.source_line), self.then())]
    InLoop {
        /// What.
        what: &'static str,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A cache was asked for what it does not hold.
    #[error("{}`{path}` was not kept{}", at(.source_line), self.then())]
    NotCached {
        /// The path.
        path: String,
        /// The closest that was.
        suggestion: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// Something has no place in an edit.
    #[error("{}not allowed in an edit: {problem}{}", at(.source_line), self.then())]
    Edit {
        /// Why.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A file cannot be read or written.
    #[error("{}a file cannot be read or written: {problem}{}", at(.source_line), self.then())]
    File {
        /// What the system says.
        #[source]
        problem: std::io::Error,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A site was used outside of any invoke.
    #[error("{}`{site}` is used outside of any prompt{}", at(.source_line), self.then())]
    OutsideInvoke {
        /// The site.
        site: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// Ranks, sizes or kinds do not fit.
    #[error("{}`{op}`: {problem}{}", at(.source_line), self.then())]
    Mismatch {
        /// What was asked for.
        op: String,
        /// Why that is not possible.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// Prompts of different lengths are treated as if a position were the same token in each.
    #[error("{}`{op}` along {axis} of prompts of different lengths would mix in padding or shift positions{}", at(.source_line), self.then())]
    Ragged {
        /// What was asked for.
        op: String,
        /// Along which axis.
        axis: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A site is set from a value that does not exist yet.
    #[error("{}the value comes from `{from}`, which runs after `{to}`{}", at(.source_line), self.then())]
    TooLate {
        /// Where the value is read.
        from: String,
        /// Where it is written.
        to: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// Invokes need each other's values.
    #[error("{}invokes {members:?} need each other's values in a circle, so that none can run first: {detail}{}", at(.source_line), self.then())]
    Circle {
        /// The invokes.
        members: Vec<usize>,
        /// Which sites are involved.
        detail: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An edit reaches nothing that is saved.
    #[error("{}the edit of `{site}` has no effect on anything that is saved: {reason}{}", at(.source_line), self.then())]
    NoEffect {
        /// The site.
        site: String,
        /// Why.
        reason: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A value of a branch is used outside of it.
    #[error("{}this uses a value from inside of a branch, which may not be run{}", at(.source_line), self.then())]
    OutsideBranch {
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A site that the trace uses was not reached.
    #[error("{}site `{site}` was not reached in this forward pass{}", at(.source_line), self.then())]
    NotPassed {
        /// The site.
        site: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// The model passed its sites in another order than it declares.
    #[error("{}the model passed `{site}` out of the order in which it declares its sites{}", at(.source_line), self.then())]
    OutOfOrder {
        /// The site.
        site: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A computation failed.
    #[error("{}`{op}` failed: {}{}", at(.source_line), brief(&**.problem), self.then())]
    Compute {
        /// What was computed.
        op: String,
        /// What candle says: a [`candle_core::Error`], which is large.
        #[source]
        problem: Box<dyn std::error::Error + Send + Sync>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A branch on a value was left early.
    #[error(
        "{}a branch on a traced value cannot be left with `break` or `continue`: both branches are recorded before anything runs{}",
        at(.source_line),
        self.then()
    )]
    OpenBranch {
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A handle to a site was read after an edit of the site.
    #[error("{}this reads `{site}` through a handle that was made at {handle_line}, before the edit at {edit_line}{}", at(.source_line), self.then())]
    StaleSite {
        /// The site.
        site: String,
        /// Where the handle was made.
        handle_line: Box<Source>,
        /// Where the site was edited.
        edit_line: Box<Source>,
        /// Where it is read.
        source_line: Option<Source>,
    },
    /// Two traces were mixed.
    #[error("{}this value belongs to another trace{}", at(.source_line), self.then())]
    OtherTrace {
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// candle failed in the model.
    #[error("{}the model failed: {}{}", at(.source_line), brief(&**.problem), self.then())]
    Candle {
        /// What candle says: a [`candle_core::Error`], which is large.
        #[source]
        problem: Box<dyn std::error::Error + Send + Sync>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A rollout has settings that mean nothing.
    #[error("{}invalid settings of a rollout: {problem}{}", at(.source_line), self.then())]
    Rollout {
        /// Which.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A step is after the last that a generation can have.
    #[error("{}there is no step {step}: the run has at most {steps}{}", at(.source_line), self.then())]
    NoStep {
        /// The step.
        step: i64,
        /// How many there are at most.
        steps: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A generation ended before a step that is needed.
    #[error("{}step {step} never happened: the run ended after {reached} steps{}", at(.source_line), self.then())]
    StepNotReached {
        /// The step.
        step: u32,
        /// How many there were.
        reached: usize,
        /// Whether the program names this step, and not just all that there are.
        named: bool,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// The inside of a module is used that is skipped.
    #[error("{}`{site}` lies inside of `{module}`, which is skipped, so that its inside is not run{}", at(.source_line), self.then())]
    InsideSkipped {
        /// The site.
        site: String,
        /// The module.
        module: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A gradient cannot arrive.
    #[error("{}no gradient arrives here: {reason}{}", at(.source_line), self.then())]
    NoGradient {
        /// Why.
        reason: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// The model handle failed: its tokenizer, say, or its connection.
    #[error("{}{problem}{}", at(.source_line), self.then())]
    Model {
        /// Why.
        #[source]
        problem: Box<dyn std::error::Error + Send + Sync>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A part lies outside of its axis.
    #[error("{}{part} lies outside of the axis {axis} = {size}{}", at(.source_line), self.then())]
    OutsideAxis {
        /// An index or a range: `9`, `2..12`.
        part: String,
        /// The axis.
        axis: String,
        /// How many entries it has.
        size: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An index of a list lies outside of its axis.
    #[error("{}index {index} lies outside of an axis of {size} entries, `{axis}`{}", at(.source_line), self.then())]
    NoEntry {
        /// The index.
        index: i64,
        /// The axis.
        axis: String,
        /// How many entries it has.
        size: usize,
        /// Whether negative indices count from the end here.
        from_end: bool,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// Integrated gradients were asked for without a step.
    #[error("{}integrated gradients need at least one step{}", at(.source_line), self.then())]
    NoSteps {
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A graph cannot be stored.
    #[error("{}this graph cannot be stored: {problem}{}", at(.source_line), self.then())]
    NotStored {
        /// Why.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A loss or a gradient is not finite in 16 bits.
    #[error("{}the {what} is infinite or NaN in {dtype}, whose largest number is {largest:.3e}{}", at(.source_line), self.then())]
    Overflow {
        /// The loss or the gradient.
        what: &'static str,
        /// candle's name of the type.
        dtype: &'static str,
        /// The type's largest number.
        largest: f64,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An operation asks for more than the limits allow.
    #[error("{}with `{op}` there are {found} {what}; at most {limit} are allowed{}", at(.source_line), self.then())]
    OverLimit {
        /// The operation.
        op: String,
        /// Of what there is too much.
        what: &'static str,
        /// How much.
        found: usize,
        /// How much is allowed.
        limit: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A tensor of an input holds NaN or an infinity.
    #[error("{}input {input} of invoke {invoke} holds {number}{}", at(.source_line), self.then())]
    InputNotFinite {
        /// The number that its entries come to.
        number: f64,
        /// Which invoke.
        invoke: usize,
        /// Which of its inputs.
        input: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A run returned more or fewer values than the graph saves.
    #[error("{}the model returned {found} values for a graph that saves {expected}{}", at(.source_line), self.then())]
    WrongResults {
        /// How many are saved.
        expected: usize,
        /// How many were returned.
        found: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A model cannot be told from others.
    #[error("{}{what} cannot be told from others, and so no file of results can be known to be its own{}", at(.source_line), self.then())]
    NoFingerprint {
        /// What model.
        what: &'static str,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// The file of a sweep cannot be written.
    #[error("{}the results of the sweep cannot be kept in `{path}`: {problem}{}", at(.source_line), self.then())]
    SweepFile {
        /// The file.
        path: String,
        /// What the system says.
        problem: String,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// Rows of different lengths are used as if each entry were every row's own.
    #[error("{}{what} would mix padding in: the rows of this tensor have {lengths:?} entries{}", at(.source_line), self.then())]
    RowsDiffer {
        /// What was asked for.
        what: String,
        /// The numbers of entries of the rows.
        lengths: Vec<usize>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A row is used at a step that comes after the end of its text.
    #[error("{}{what} takes in row {row}, whose text had ended before this step{}", at(.source_line), self.then())]
    RowEnded {
        /// What was asked for.
        what: String,
        /// The row.
        row: usize,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// An index or a range lies outside of an axis.
    #[error(
        "{}{entries} is out of range for the axis {axis} of size {size}{}{}",
        at(.source_line), .row.map(|row| format!(" in row {row}")).unwrap_or_default(),
        self.then()
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
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A tensor whose rows differ in length is put into a trace.
    #[error("{}the rows of this tensor have {lengths:?} entries, and which prompts they would meet is not known{}", at(.source_line), self.then())]
    RowsIntoTrace {
        /// The numbers of entries of the rows.
        lengths: Vec<usize>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// What the points of a sweep end with has not the same sizes everywhere.
    #[error("{}the values of this sweep have different sizes, {first:?} and {other:?}{}", at(.source_line), self.then())]
    PointsDiffer {
        /// The sizes at the first point.
        first: Vec<usize>,
        /// Those at another.
        other: Vec<usize>,
        /// Where in the program.
        source_line: Option<Source>,
    },
    /// A sweep's results are to be kept in a file that has no place for the lengths of their rows.
    #[error("{}the results of this sweep have rows of {lengths:?} entries, which a checkpoint does not hold{}", at(.source_line), self.then())]
    RowsIntoCheckpoint {
        /// The numbers of entries of the rows.
        lengths: Vec<usize>,
        /// Where in the program.
        source_line: Option<Source>,
    },
}

impl From<candle_core::Error> for Error {
    fn from(problem: candle_core::Error) -> Self {
        Error::Candle { problem: Box::new(problem), source_line: None }
    }
}

impl From<std::io::Error> for Error {
    fn from(problem: std::io::Error) -> Self {
        Error::File { problem, source_line: None }
    }
}

impl Error {
    /// What the model handle failed with: its tokenizer, say, or its connection.
    pub fn model(problem: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::Model { problem: Box::new(problem), source_line: None }
    }

    /// What is wrong with an input.
    pub fn input(problem: impl InputProblem + 'static) -> Self {
        Error::Input { problem: Box::new(problem), source_line: None }
    }
}

/// What can be wrong with an input of a kind of model.
pub trait InputProblem: std::error::Error + Send + Sync {
    /// What to write instead.
    fn help(&self) -> Option<String>;
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
