//! Functions of this program inside of a graph: the one thing in it that is no data.

use std::sync::Arc;

use candle_core::Tensor;

/// What a [`Function`] holds.
type Body = dyn Fn(&[Tensor]) -> candle_core::Result<Tensor> + Send + Sync;

/// A function on tensors. It works in this process only: a graph that has one can neither be stored nor sent.
#[derive(Clone)]
pub struct Function(Arc<Body>);

impl Function {
    /// Wraps a function.
    pub fn new(function: impl Fn(&[Tensor]) -> candle_core::Result<Tensor> + Send + Sync + 'static) -> Self {
        Function(Arc::new(function))
    }

    /// Calls it.
    ///
    /// # Errors
    /// What it fails with.
    pub fn call(&self, args: &[Tensor]) -> candle_core::Result<Tensor> {
        (self.0)(args)
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a function of this program")
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Refuses to write functions.
pub(super) fn refuse<S: serde::Serializer>(_functions: &[Function], _serializer: S) -> Result<S::Ok, S::Error> {
    Err(serde::ser::Error::custom(
        "it applies a closure (`apply`), which exists in this program only; register it as a named operation to store or send the graph",
    ))
}
