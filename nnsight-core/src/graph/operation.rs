//! Operations with a name, which crates register: they can be stored and sent, and are known wherever the crate is linked.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use candle_core::Tensor;

use super::Facts;

/// An operation of your own. A graph holds its name and its settings; what it computes is looked up where the graph is run.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use nnsight_core::graph::{Facts, Operation, register};
/// use candle_core::Tensor;
///
/// /// Keeps entries above a threshold.
/// struct Threshold;
/// impl Operation for Threshold {
///     fn name(&self) -> &str {
///         "example.threshold"
///     }
///     fn facts(&self, args: &[Facts], _parameters: &[f64]) -> Result<Facts, String> {
///         Ok(args[0].clone())
///     }
///     fn compute(&self, args: &[Tensor], parameters: &[f64]) -> candle_core::Result<Tensor> {
///         args[0].ge(parameters[0])?.where_cond(&args[0], &args[0].zeros_like()?)
///     }
/// }
/// register(Arc::new(Threshold));
/// ```
pub trait Operation: Send + Sync {
    /// Its name, with the crate's before it: `my_crate.threshold`.
    fn name(&self) -> &str;
    /// What it gives for arguments of these facts; there is at least one.
    ///
    /// # Errors
    /// What is wrong with the arguments or settings, as a sentence.
    fn facts(&self, args: &[Facts], parameters: &[f64]) -> Result<Facts, String>;
    /// Computes it. What candle records of it is what gradients go through.
    ///
    /// # Errors
    /// What candle fails with.
    fn compute(&self, args: &[Tensor], parameters: &[f64]) -> candle_core::Result<Tensor>;
}

static OPERATIONS: LazyLock<RwLock<HashMap<String, Arc<dyn Operation>>>> = LazyLock::new(RwLock::default);

/// Makes an operation known under its name; the last one registered under a name counts.
pub fn register(operation: Arc<dyn Operation>) {
    OPERATIONS.write().unwrap_or_else(PoisonError::into_inner).insert(operation.name().to_string(), operation);
}

/// The operation with this name.
pub fn operation(name: &str) -> Option<Arc<dyn Operation>> {
    OPERATIONS.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
}

/// The name that comes closest to a wrong one.
pub(crate) fn suggest(wrong: &str) -> Option<String> {
    let operations = OPERATIONS.read().unwrap_or_else(PoisonError::into_inner);
    crate::error::closest(operations.keys(), wrong)
}
