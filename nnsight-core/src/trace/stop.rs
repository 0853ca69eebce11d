//! Ending a run early.

/// Inside of a trace: ends the run of the prompts once they have reached a site, `stop!(model.layers[5].output)`. In a branch of an `if` on a
/// value it does so only where that branch is run; in a generation no token follows.
///
/// What comes later in the program and is never reached is refused before anything runs; in a branch, saving it fails and says so. Without
/// this, a run ends by itself once nothing more of it is needed.
#[macro_export]
macro_rules! stop {
    ($site:expr) => {
        ($site).__stop()
    };
}
