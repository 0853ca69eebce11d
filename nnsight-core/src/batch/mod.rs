//! What one forward pass is given, as the engine sees it: inputs side by side, and for which positions the last stages are asked.

mod wanted;
mod window;

use std::any::Any;

pub use wanted::Wanted;
pub use window::Window;

/// What one pass of a model is given. What is in it, the model's kind knows; the engine knows how large it is.
pub trait AnyBatch: Any {
    /// The number of inputs side by side.
    fn rows(&self) -> usize;
    /// The number of positions of this pass, padding included.
    fn width(&self) -> usize;
}

impl dyn AnyBatch {
    /// The batch of a kind of models, if it is one of those.
    pub fn downcast_ref<B: AnyBatch>(&self) -> Option<&B> {
        (self as &dyn Any).downcast_ref()
    }
}

/// No inputs at all: what a module is given that is applied by hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInputs;

impl AnyBatch for NoInputs {
    fn rows(&self) -> usize {
        0
    }
    fn width(&self) -> usize {
        0
    }
}
