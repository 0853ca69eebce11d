//! Where in the program an error happened.

use super::{Error, Source};

impl Error {
    /// The line of the program that it is about, where that is known.
    pub fn source_line(&self) -> Option<&Source> {
        match self {
            Error::TensorShape { source_line, .. }
            | Error::TensorKind { source_line, .. }
            | Error::GraphVersion { source_line, .. }
            | Error::GraphFormat { source_line, .. }
            | Error::TooLarge { source_line, .. }
            | Error::Dangling { source_line, .. }
            | Error::Arity { source_line, .. }
            | Error::NotFinite { source_line, .. }
            | Error::EmptyInvoke { source_line, .. }
            | Error::EmptyPrompt { source_line, .. }
            | Error::PromptTooLong { source_line, .. }
            | Error::Mask { source_line, .. }
            | Error::UnknownToken { source_line, .. }
            | Error::OtherModel { source_line, .. }
            | Error::NoLayer { source_line, .. }
            | Error::NoSite { source_line, .. }
            | Error::NameTaken { source_line, .. }
            | Error::Attachment { source_line, .. }
            | Error::WrongName { source_line, .. }
            | Error::NoModule { source_line, .. }
            | Error::NoOperation { source_line, .. }
            | Error::AfterStop { source_line, .. }
            | Error::NoKvCache { source_line, .. }
            | Error::OtherSweep { source_line, .. }
            | Error::NoPoints { source_line, .. }
            | Error::Endless { source_line, .. }
            | Error::InLoop { source_line, .. }
            | Error::NotCached { source_line, .. }
            | Error::Edit { source_line, .. }
            | Error::File { source_line, .. }
            | Error::NoPrompt { source_line, .. }
            | Error::Mismatch { source_line, .. }
            | Error::Ragged { source_line, .. }
            | Error::TooLate { source_line, .. }
            | Error::Circle { source_line, .. }
            | Error::NoEffect { source_line, .. }
            | Error::OutsideBranch { source_line, .. }
            | Error::NotPassed { source_line, .. }
            | Error::OutOfOrder { source_line, .. }
            | Error::Compute { source_line, .. }
            | Error::OpenBranch { source_line, .. }
            | Error::StaleSite { source_line, .. }
            | Error::Overflow { source_line, .. }
            | Error::OverLimit { source_line, .. }
            | Error::PromptNotFinite { source_line, .. }
            | Error::WrongResults { source_line, .. }
            | Error::NoFingerprint { source_line, .. }
            | Error::SweepFile { source_line, .. }
            | Error::OtherTrace { source_line, .. }
            | Error::Candle { source_line, .. }
            | Error::Generation { source_line, .. }
            | Error::NoStep { source_line, .. }
            | Error::StepNotReached { source_line, .. }
            | Error::InsideSkipped { source_line, .. }
            | Error::NoGradient { source_line, .. }
            | Error::Model { source_line, .. }
            | Error::OutsideAxis { source_line, .. }
            | Error::NoEntry { source_line, .. }
            | Error::NoSteps { source_line, .. }
            | Error::RowsDiffer { source_line, .. }
            | Error::RowEnded { source_line, .. }
            | Error::OutOfRange { source_line, .. }
            | Error::RowsIntoTrace { source_line, .. }
            | Error::PointsDiffer { source_line, .. }
            | Error::RowsIntoCheckpoint { source_line, .. }
            | Error::NotStored { source_line, .. } => source_line.as_ref(),
        }
    }

    /// Says where it happened, where that is not known yet.
    #[must_use]
    pub fn or_at(mut self, place: Option<Source>) -> Self {
        let (Error::TensorShape { source_line, .. }
        | Error::TensorKind { source_line, .. }
        | Error::GraphVersion { source_line, .. }
        | Error::GraphFormat { source_line, .. }
        | Error::TooLarge { source_line, .. }
        | Error::Dangling { source_line, .. }
        | Error::Arity { source_line, .. }
        | Error::NotFinite { source_line, .. }
        | Error::EmptyInvoke { source_line, .. }
        | Error::EmptyPrompt { source_line, .. }
        | Error::PromptTooLong { source_line, .. }
        | Error::Mask { source_line, .. }
        | Error::UnknownToken { source_line, .. }
        | Error::OtherModel { source_line, .. }
        | Error::NoLayer { source_line, .. }
        | Error::NoSite { source_line, .. }
        | Error::NameTaken { source_line, .. }
        | Error::Attachment { source_line, .. }
        | Error::WrongName { source_line, .. }
        | Error::NoModule { source_line, .. }
        | Error::NoOperation { source_line, .. }
        | Error::AfterStop { source_line, .. }
        | Error::NoKvCache { source_line, .. }
        | Error::OtherSweep { source_line, .. }
        | Error::NoPoints { source_line, .. }
        | Error::Endless { source_line, .. }
        | Error::InLoop { source_line, .. }
        | Error::NotCached { source_line, .. }
        | Error::Edit { source_line, .. }
        | Error::File { source_line, .. }
        | Error::NoPrompt { source_line, .. }
        | Error::Mismatch { source_line, .. }
        | Error::Ragged { source_line, .. }
        | Error::TooLate { source_line, .. }
        | Error::Circle { source_line, .. }
        | Error::NoEffect { source_line, .. }
        | Error::OutsideBranch { source_line, .. }
        | Error::NotPassed { source_line, .. }
        | Error::OutOfOrder { source_line, .. }
        | Error::Compute { source_line, .. }
        | Error::OpenBranch { source_line, .. }
        | Error::StaleSite { source_line, .. }
        | Error::Overflow { source_line, .. }
        | Error::OverLimit { source_line, .. }
        | Error::PromptNotFinite { source_line, .. }
        | Error::WrongResults { source_line, .. }
        | Error::NoFingerprint { source_line, .. }
        | Error::SweepFile { source_line, .. }
        | Error::OtherTrace { source_line, .. }
        | Error::Candle { source_line, .. }
        | Error::Generation { source_line, .. }
        | Error::NoStep { source_line, .. }
        | Error::StepNotReached { source_line, .. }
        | Error::InsideSkipped { source_line, .. }
        | Error::NoGradient { source_line, .. }
        | Error::Model { source_line, .. }
        | Error::OutsideAxis { source_line, .. }
        | Error::NoEntry { source_line, .. }
        | Error::NoSteps { source_line, .. }
        | Error::RowsDiffer { source_line, .. }
        | Error::RowEnded { source_line, .. }
        | Error::OutOfRange { source_line, .. }
        | Error::RowsIntoTrace { source_line, .. }
        | Error::PointsDiffer { source_line, .. }
        | Error::RowsIntoCheckpoint { source_line, .. }
        | Error::NotStored { source_line, .. }) = &mut self;
        if source_line.is_none() {
            *source_line = place;
        }
        self
    }
}

/// A place as a line begins with it: `src/main.rs:12:5: `, or nothing.
pub(crate) fn at(place: &Option<Source>) -> At<'_> {
    At(place.as_ref())
}

/// What [`at`] returns.
pub(crate) struct At<'a>(Option<&'a Source>);

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |place| write!(f, "{place}: "))
    }
}
