//! A model with attached modules, as the executor sees it.

use candle_core::{DType, Device, Tensor};

use super::Stages;
use crate::Result;
use crate::module::{Cx, Forward, Guest};

/// The stages of a model whose passes come by attached modules.
pub struct Hosting<'a, M> {
    /// The model.
    pub model: &'a M,
    /// What is attached to it.
    pub guests: &'a [Guest<'a>],
}

impl<M: Stages> Stages for Hosting<'_, M> {
    fn device(&self) -> &Device {
        self.model.device()
    }
    fn dtype(&self) -> DType {
        self.model.dtype()
    }
    fn count(&self) -> usize {
        self.model.count()
    }
    fn stage(&self, index: usize, state: Tensor, cx: &mut Cx) -> Result<Tensor> {
        let mut cx = cx.hosting(self.guests);
        self.model.stage(index, state, &mut cx)
    }
    fn head(&self) -> Option<usize> {
        self.model.head()
    }
    fn find(&self, path: &str) -> Option<&dyn Forward> {
        let inside = |guest: &Guest<'_>| path.strip_prefix(guest.name)?.strip_prefix('.').map(str::to_string);
        let attached = self.guests.iter().find_map(|guest| guest.module.find_inside(&inside(guest)?));
        attached.or_else(|| self.model.find(path))
    }
}
