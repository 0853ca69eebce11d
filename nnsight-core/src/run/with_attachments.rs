//! A model with attached modules, as the executor sees it.

use candle_core::{DType, Device, Tensor};

use super::{AnyState, Stages};
use crate::Result;
use crate::module::{Attachment, Cx, Forward};

/// The stages of a model whose passes reach attached modules.
pub struct WithAttachments<'a> {
    /// The model.
    pub model: &'a dyn Stages,
    /// What is attached to it.
    pub attachments: &'a [Attachment<'a>],
}

impl Stages for WithAttachments<'_> {
    fn device(&self) -> &Device {
        self.model.device()
    }
    fn dtype(&self) -> DType {
        self.model.dtype()
    }
    fn count(&self) -> usize {
        self.model.count()
    }
    fn begin(&self, cx: &mut Cx) -> Result<AnyState> {
        self.model.begin(&mut cx.with_attachments(self.attachments))
    }
    fn stage(&self, index: usize, state: AnyState, cx: &mut Cx) -> Result<AnyState> {
        self.model.stage(index, state, &mut cx.with_attachments(self.attachments))
    }
    fn output(&self, state: AnyState) -> Result<Tensor> {
        self.model.output(state)
    }
    fn head(&self) -> Option<usize> {
        self.model.head()
    }
    fn find(&self, path: &str) -> Option<&dyn Forward> {
        let inside = |attachment: &Attachment<'_>| path.strip_prefix(attachment.name)?.strip_prefix('.').map(str::to_string);
        let attached = self.attachments.iter().find_map(|attachment| attachment.module.find_inside(&inside(attachment)?));
        attached.or_else(|| self.model.find(path))
    }
}
