//! What to write instead.

use super::Error;

impl Error {
    /// What to write instead, where there is something to say beside the sentence itself.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Error::TensorShape { .. } => "reshape it with candle, or name the axes that it has: `Tensor::<_, (Batch, Seq, Hidden)>::new(…)`".into(),
            Error::TensorKind { expected, .. } => match *expected {
                "Int" => "convert it first: `.to_dtype(DType::I64)?`".into(),
                "Bool" => "convert it first: `.ne(0.0)?`".into(),
                _ => "convert it first: `.to_dtype(DType::F32)?`".into(),
            },
            Error::GraphVersion { .. } => "record the graph again with this version of nnsight, and store that".into(),
            Error::GraphFormat { .. } => "`from_json` reads what `to_json` wrote, `from_msgpack` what `to_msgpack` wrote".into(),
            Error::TooLarge { .. } => "split the experiment into several traces, or sweep over fewer points at once".into(),
            Error::Dangling { .. } | Error::Arity { .. } => "`graph!` records no such graph: record it again, or mend what built it".into(),
            Error::NotFinite { .. } => "use a large finite number instead, such as -1e9 for a mask".into(),
            Error::EmptyInvoke { .. } => "give it a prompt: `invoke!(\"…\", { … })`; a list of prompts needs at least one".into(),
            Error::EmptyInput { .. } => "a model needs at least one position".into(),
            Error::Input { problem, .. } => return problem.help(),
            Error::OtherBatch { .. } => "run it as a part of a model of its own kind".into(),
            Error::OtherModel { model, .. } => format!("trace it again on `{model}`"),
            Error::NoLayer { layers: 0, .. } => return None,
            Error::NoLayer { layers, .. } => format!("its layers are 0 to {}, or -{layers} to -1 from the end", layers - 1),
            Error::NoSite { suggestion, .. } => similar(suggestion, "`println!(\"{model}\")` lists every site"),
            Error::NameTaken { .. } => "choose another name".into(),
            Error::Attachment { found, .. } => format!("attach it to a site that holds {found}; `println!(\"{{model}}\")` lists every site"),
            Error::WrongName { .. } => "use the model's own paths; `println!(\"{model}\")` lists them".into(),
            Error::NoModule { suggestion, .. } => {
                similar(suggestion, "what can be applied treats every position by itself: a linear layer, a norm, an MLP, `lm_head`")
            }
            Error::NoOperation { suggestion, .. } if suggestion.is_empty() => "`register` makes one known".into(),
            Error::NoOperation { suggestion, .. } => format!("{}; `register` makes one known", similar(suggestion, "")),
            Error::AfterStop { .. } => "save what comes before, or stop at a later site".into(),
            Error::MissingState { step, .. } => format!("skip it at every later step too, with `for step in model.steps({step}..)`"),
            Error::OtherSweep { .. } => "remove it, or name another file".into(),
            Error::NoPoints { .. } => "give `for … in` at least one point".into(),
            Error::Endless { .. } => "see to it that its condition becomes false".into(),
            Error::InLoop { .. } => "let the loop return a value, and use that after it".into(),
            Error::NotCached { suggestion, .. } => similar(suggestion, "name its module in `Keep::outputs().of([…])`"),
            Error::Edit { .. } => "do it in a trace on the edited view".into(),
            Error::OutsideInvoke { .. } => {
                "give the trace one, use the site inside of `invoke!`, or, in `generate!`, name the step: `model.prompt()`, `model.step(2)`, \
                 `model.steps(..)`"
                    .into()
            }
            Error::Ragged { .. } => "count from the end (-1 is every prompt's last token), or give each prompt an `invoke!` of its own".into(),
            Error::TooLate { .. } => {
                "read a site that runs before, or take the value from a run of its own: an `invoke!` with the other prompt".into()
            }
            Error::Circle { .. } => "take one of the values from a trace that is run before: `let clean = trace!(…)?`".into(),
            Error::NoEffect { .. } => "save something that comes after it, or write `effect(…) = …` if it is wanted all the same".into(),
            Error::OutsideBranch { .. } => "let the `if` give a value in both branches".into(),
            Error::NotPassed { .. } => "a model has to use every site that it declares, in each pass: see to it in its `forward`".into(),
            Error::OutOfOrder { .. } => "list the fields of its struct in the order in which `forward` uses them".into(),
            Error::OpenBranch { .. } => "let the `if` give a value, or use `while_loop` or `fold`".into(),
            Error::Overflow { .. } => {
                "load the model with more bits, `.dtype(DType::F32)` on its source, or scale down what the loss is computed from".into()
            }
            Error::OverLimit { .. } => "make it smaller, or set other limits with the model's `with_limits`".into(),
            Error::InputNotFinite { .. } => "every entry must be a finite number".into(),
            Error::WrongResults { .. } => "check its `Traceable::run`".into(),
            Error::NoFingerprint { .. } => "run the sweep without `checkpoint`".into(),
            Error::SweepFile { .. } => "name a file that can be written, with room for all results".into(),
            Error::StaleSite { .. } => {
                "read it before the edit, with `.value()` at the first of these lines, or name the site again for what the edit left".into()
            }
            Error::OtherTrace { .. } => "let the other trace end with it, and use the tensor that it gives here".into(),
            Error::NoStep { .. } => "`generate!(…, max_new_tokens = …)` sets how many".into(),
            Error::StepNotReached { .. } => {
                "what every step gives is collected with `model.steps(..).map(…)`, which is as long as the run was".into()
            }
            Error::InsideSkipped { module, .. } => format!("use the output of `{module}`, or do not skip it"),
            Error::NoGradient { .. } => "take the gradient with respect to something that the loss is computed from".into(),
            Error::OutsideAxis { size: 0, .. } | Error::NoEntry { size: 0, .. } => return None,
            Error::OutsideAxis { size, .. } | Error::NoEntry { size, from_end: true, .. } => {
                format!("its entries are 0 to {}, or -{size} to -1 from the end", size - 1)
            }
            Error::NoEntry { size, from_end: false, .. } => format!("its entries are 0 to {}; here none is counted from the end", size - 1),
            Error::NoSteps { .. } => "32 steps are usual".into(),
            Error::RowsDiffer { .. } => {
                "take each by itself, with `.rows()` or `.at(Batch, row)`, or count from the end (-1 is every row's last)".into()
            }
            Error::RowEnded { .. } => {
                "give each prompt an `invoke!` of its own, or save the value itself and take the rows that `.present()` lists".into()
            }
            Error::RowsIntoTrace { .. } => {
                "give each prompt an `invoke!` of its own, and write `….at(Batch, 0) = tensor.at(Batch, row)` there".into()
            }
            Error::PointsDiffer { .. } => {
                "let its block end with something of one size, such as `.at(Seq, -1)`, or sweep over the prompts alone".into()
            }
            Error::RowsIntoCheckpoint { .. } => {
                "give each prompt a point of its own, or let the block end with something of one size, such as `.at(Seq, -1)`".into()
            }
            Error::OutOfRange { .. } => return None,
            // What failed says itself what is the matter.
            Error::File { .. }
            | Error::Mismatch { .. }
            | Error::Compute { .. }
            | Error::Candle { .. }
            | Error::Rollout { .. }
            | Error::Model { .. }
            | Error::NotStored { .. } => return None,
        })
    }

    /// The advice as the end of a sentence.
    pub(super) fn then(&self) -> String {
        self.help().map(|help| format!("; {help}")).unwrap_or_default()
    }
}

/// What is similar, where something is, or else how to find out what there is.
fn similar(suggestion: &str, otherwise: &str) -> String {
    match suggestion.trim_start_matches("; ") {
        "" => otherwise.to_string(),
        similar => similar.to_string(),
    }
}
