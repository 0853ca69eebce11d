//! Where in the program an error happened.

use super::{Error, Source};

/// The place of an error, whichever it is: every variant has one.
macro_rules! places {
    ($($variant:ident),+) => {
        impl Error {
            /// The line of the program that it is about, if that is known.
            pub fn source_line(&self) -> Option<&Source> {
                let ($(Error::$variant { source_line, .. })|+) = self;
                source_line.as_ref()
            }

            /// Says where it happened, if that is not known yet.
            #[must_use]
            pub fn or_at(mut self, place: Option<Source>) -> Self {
                let ($(Error::$variant { source_line, .. })|+) = &mut self;
                if source_line.is_none() {
                    *source_line = place;
                }
                self
            }
        }
    };
}
places! {
    TensorShape, TensorKind, GraphVersion, GraphFormat, TooLarge, Dangling, Arity, NotFinite, EmptyInvoke, EmptyInput, Input, OtherBatch,
    OtherModel, NoLayer, NoSite, NameTaken, Attachment, WrongName, NoModule, NoOperation, AfterStop, MissingState, OtherSweep, NoPoints,
    Endless, InLoop, NotCached, Edit, File, OutsideInvoke, Mismatch, Ragged, TooLate, Circle, NoEffect, OutsideBranch, NotPassed, OutOfOrder, Compute,
    OpenBranch, StaleSite, Overflow, OverLimit, InputNotFinite, WrongResults, NoFingerprint, SweepFile, OtherTrace, Candle, Rollout, NoStep,
    StepNotReached, InsideSkipped, NoGradient, Model, OutsideAxis, NoEntry, NoSteps, RowsDiffer, RowEnded, OutOfRange, RowsIntoTrace, PointsDiffer,
    RowsIntoCheckpoint, NotStored
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
