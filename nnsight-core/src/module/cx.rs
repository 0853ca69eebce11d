//! The context that a forward pass runs in: what makes submodules and named values visible.

use candle_core::{DType, Tensor};
use nnsight_kernels::{MaybeOwned, is_half};

use super::state::{ModuleState, States};
use super::{Attachment, AttachmentRole, Forward, Instrument};
use crate::batch::{AnyBatch, Wanted, Window};
use crate::{Error, Result};

/// Where a module's sites stand in the [`SiteTable`](crate::sites::SiteTable). Every module has one as its field `place`; it is set when the
/// model is put together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub(crate) sites: Option<(usize, usize)>,
}

impl Place {
    /// The first site of the module, where the model has been put together.
    pub fn first(&self) -> Option<usize> {
        self.sites.map(|(first, _)| first)
    }

    /// The place of a module whose sites are `first..next`. `derive(Module)` calls it.
    #[doc(hidden)]
    pub fn spanning(first: usize, next: usize) -> Self {
        Place { sites: Some((first, next - 1)) }
    }
}

/// The number of a named value among the sites of its module.
#[derive(Clone, Copy, Debug)]
pub struct Tap(#[doc(hidden)] pub usize);

impl Tap {
    /// The value that comes after these sites of its module. `derive(Module)` calls it.
    #[doc(hidden)]
    pub const fn after(counts: &[Option<usize>]) -> Self {
        let mut sum = 0;
        let mut index = 0;
        while index < counts.len() {
            match counts[index] {
                Some(count) => sum += count,
                None => panic!("a `#[tap]` cannot stand after a list of layers"),
            }
            index += 1;
        }
        Tap(sum)
    }
}

/// Called at every used site; returns the value the model continues with.
pub(crate) trait Hook {
    fn visit(&mut self, site: usize, value: Tensor) -> Result<Tensor>;
    /// The type of the model's numbers.
    fn dtype(&self) -> DType;
    /// For whom the module is skipped whose output is at a site.
    fn skipped(&self, output: usize) -> Skipped;
    /// The output of a skipped module; the prompts for which it is not skipped keep what it computed.
    fn replacement(&mut self, output: usize, computed: Option<Tensor>) -> Result<Tensor>;
}

/// For whom a module is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// For none of the prompts.
    No,
    /// For some of them.
    Partly,
    /// For all.
    Wholly,
}

/// The context of a forward pass.
pub struct Cx<'a> {
    /// For each site whether anybody uses it.
    used: &'a [bool],
    hook: Option<&'a mut dyn Hook>,
    /// What earlier passes left behind, where this one continues them or is to be continued.
    states: Option<&'a mut States>,
    batch: &'a dyn AnyBatch,
    wanted: Wanted,
    /// The modules that were attached to the model.
    attachments: &'a [Attachment<'a>],
    here: usize,
    /// The positions that are wanted of the layer that is being run, if those are not all.
    window: Option<Window>,
}

impl<'a> Cx<'a> {
    /// A pass that nobody looks at.
    pub fn untouched(batch: &'a dyn AnyBatch) -> Self {
        Cx { used: &[], hook: None, states: None, batch, wanted: Wanted::All, attachments: &[], here: 0, window: None }
    }

    /// A pass that nobody looks at, and that continues or is continued by others.
    pub fn continued(batch: &'a dyn AnyBatch, states: &'a mut States) -> Self {
        Cx { states: Some(states), ..Cx::untouched(batch) }
    }

    /// The same pass, of which the last stages are asked for these positions.
    #[must_use]
    pub fn wanting(self, wanted: Wanted) -> Self {
        Cx { wanted, ..self }
    }

    pub(crate) fn hooked(used: &'a [bool], hook: &'a mut dyn Hook, states: Option<&'a mut States>, batch: &'a dyn AnyBatch, wanted: Wanted) -> Self {
        Cx { used, hook: Some(hook), states, wanted, ..Cx::untouched(batch) }
    }

    /// The same pass, coming by attached modules.
    pub(crate) fn with_attachments<'b>(&'b mut self, attachments: &'b [Attachment<'b>]) -> Cx<'b> {
        let hook: Option<&'b mut dyn Hook> = match &mut self.hook {
            Some(hook) => Some(&mut **hook),
            None => None,
        };
        let Cx { used, batch, wanted, here, window, .. } = *self;
        Cx { used, hook, states: self.states.as_deref_mut(), batch, wanted, attachments, here, window }
    }

    /// What this pass is given.
    ///
    /// # Errors
    /// If it is given a batch of another kind of models.
    pub fn batch<B: AnyBatch>(&self) -> Result<&'a B> {
        self.batch.downcast_ref().ok_or_else(|| Error::OtherBatch { expected: std::any::type_name::<B>(), source_line: None })
    }

    /// Runs a submodule, whose input, inside and output are then sites.
    ///
    /// # Errors
    /// What the submodule fails with, and what an intervention in it fails with.
    pub fn call<M: Forward + Instrument>(&mut self, module: &M, input: &Tensor) -> Result<Tensor> {
        Ok(self.call_owned(module, input)?.into_tensor())
    }

    /// As [`Cx::call`], for a caller that overwrites the result if nobody else holds it.
    ///
    /// # Errors
    /// As [`Cx::call`].
    pub fn call_owned<M: Forward + Instrument>(&mut self, module: &M, input: &Tensor) -> Result<MaybeOwned> {
        let Some((first, last)) = module.place().sites else {
            return module.forward_owned(input, self);
        };
        let outer = std::mem::replace(&mut self.here, first);
        let stand_in = self.attachments.iter().find(|attachment| attachment.place == AttachmentRole::Replace && attachment.target == first).copied();
        // What is attached to the input is run there also where nobody uses it.
        let is_target = self.attachments.iter().any(|attachment| attachment.target == first);
        let result = match self.is_used(first) || is_target {
            false => module.forward_owned(input, self),
            true => self.call_visited(module, input, (first, last), stand_in),
        };
        self.here = outer;
        self.fire_owned(last, result?)
    }

    /// Runs a submodule whose input somebody uses, or that is skipped, or another in place of it.
    fn call_visited<M: Forward>(
        &mut self,
        module: &M,
        input: &Tensor,
        (first, last): (usize, usize),
        stand_in: Option<Attachment<'a>>,
    ) -> Result<MaybeOwned> {
        let input = self.fire(first, input.clone())?;
        let skipped = self.hook.as_ref().map_or(Skipped::No, |hook| hook.skipped(last));
        let given = match skipped {
            Skipped::Wholly => None,
            Skipped::No | Skipped::Partly => Some(match stand_in {
                Some(attachment) => MaybeOwned::shared(attachment.module.call(&self.rounded(&input)?, self)?),
                None => module.forward_owned(&input, self)?,
            }),
        };
        match (&mut self.hook, given, skipped) {
            (_, Some(given), Skipped::No) => Ok(given),
            (Some(hook), given, _) => Ok(MaybeOwned::shared(hook.replacement(last, given.map(MaybeOwned::into_tensor))?)),
            (None, given, _) => given.map_or_else(|| module.forward_owned(&input, self), Ok),
        }
    }

    /// Runs the last layer. Its output is needed at the positions only that the batch asks for; if nobody looks into it, it is computed for those,
    /// which [`Cx::wanted`] tells apart.
    ///
    /// # Errors
    /// As [`Cx::call`].
    pub fn call_last<M: Forward + Instrument>(&mut self, layer: &M, input: &Tensor) -> Result<Tensor> {
        self.window = match self.wanted {
            Wanted::OfLastLayer(window) if !self.looks_into(layer) => Some(window),
            _ => None,
        };
        let result = self.call(layer, input);
        self.window = None;
        result
    }

    /// Of a value at all positions of a pass, those for which a layer is to compute its output: all of them, but for the last layer. What other
    /// positions look at, keys and values, is needed at all.
    ///
    /// # Shapes
    /// rows and positions first
    ///
    /// # Errors
    /// If the value has one axis.
    pub fn wanted(&self, x: &Tensor) -> Result<Tensor> {
        match self.window {
            Some(window) => Ok(window.of(x)?),
            None => Ok(x.clone()),
        }
    }

    /// Whether output is wanted at all positions of the pass.
    pub fn wants_all_positions(&self) -> bool {
        self.window.is_none()
    }

    /// Keys or values, without those at which no wanted position looks: the last.
    ///
    /// # Shapes
    /// rows, heads and positions first
    ///
    /// # Errors
    /// If there are not so many.
    pub fn looked_at(&self, x: &Tensor) -> Result<Tensor> {
        match self.window {
            Some(window) if window.behind > 0 => Ok(x.narrow(2, 0, x.dim(2)?.saturating_sub(window.behind))?),
            _ => Ok(x.clone()),
        }
    }

    /// Runs what belongs to a module but is not called as one: a model's containers, whose parts are stages.
    ///
    /// # Errors
    /// What the body fails with.
    pub fn within<M: Instrument, T>(&mut self, module: &M, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let first = module.place().sites.map_or(self.here, |(first, _)| first);
        let outer = std::mem::replace(&mut self.here, first);
        let result = body(self);
        self.here = outer;
        result
    }

    /// Gives a value of this module a name, under which it can be read and replaced.
    ///
    /// # Errors
    /// What an intervention at this place fails with.
    pub fn tap(&mut self, tap: Tap, value: Tensor) -> Result<Tensor> {
        self.fire(self.here + tap.0, value)
    }

    /// A weight of this module, under a name by which it can be read and replaced.
    ///
    /// # Errors
    /// What an intervention at this place fails with.
    pub fn parameter(&mut self, tap: Tap, weight: &Tensor) -> Result<Tensor> {
        self.tap(tap, weight.clone())
    }

    /// Of what the layers computed, the positions for which the last stage is asked; those alone may have been computed already.
    ///
    /// # Shapes
    /// rows and positions first
    ///
    /// # Errors
    /// If the value has one axis.
    pub fn for_head(&self, state: Tensor) -> Result<Tensor> {
        match self.wanted.window() {
            Some(window) if state.dim(1)? == self.batch.width() => Ok(window.of(&state)?),
            _ => Ok(state),
        }
    }

    /// What this module keeps from pass to pass, nothing yet in its first; `None` if no other pass continues this one.
    ///
    /// # Errors
    /// If it keeps something of another type.
    pub fn state<S: ModuleState + Default>(&mut self) -> Result<Option<&mut S>> {
        let here = self.here;
        Ok(self.states.as_mut().map(|states| states.of(here)).transpose()?)
    }

    /// Whether anybody uses one of these values, so that a fused computation which does not have them must not be taken.
    pub fn wants(&self, taps: &[Tap]) -> bool {
        let attached = |site| self.attachments.iter().any(|attachment| attachment.target == site);
        taps.iter().any(|tap| self.is_used(self.here + tap.0) || attached(self.here + tap.0))
    }

    /// Whether anybody uses a site of a submodule, so that it must be run by itself.
    pub fn looks_into<M: Instrument>(&self, module: &M) -> bool {
        let Some((first, last)) = module.place().sites else { return false };
        (first..=last).any(|site| self.is_used(site)) || self.attachments.iter().any(|attachment| (first..=last).contains(&attachment.target))
    }

    fn is_used(&self, site: usize) -> bool {
        self.used.get(site).copied().unwrap_or(false)
    }

    /// What a model of 16 bits computes in `f32`, as sites hold it and attached modules take it.
    fn rounded(&self, value: &Tensor) -> Result<Tensor> {
        match &self.hook {
            Some(hook) if value.dtype() == DType::F32 && is_half(hook.dtype()) => Ok(value.to_dtype(hook.dtype())?),
            _ => Ok(value.clone()),
        }
    }

    /// As [`Cx::fire`]; what nobody sees stays owned.
    fn fire_owned(&mut self, site: usize, value: MaybeOwned) -> Result<MaybeOwned> {
        match self.is_used(site) || self.attachments.iter().any(|attachment| attachment.target == site) {
            true => Ok(MaybeOwned::shared(self.fire(site, value.into_tensor())?)),
            false => Ok(value),
        }
    }

    fn fire(&mut self, site: usize, value: Tensor) -> Result<Tensor> {
        let shown = if self.is_used(site) { Some(self.rounded(&value)?) } else { None };
        let value = match (&mut self.hook, shown) {
            (Some(hook), Some(shown)) => {
                let id = shown.id();
                let found = hook.visit(site, shown)?;
                // What nobody wrote to is not rounded by being read.
                if found.id() == id { value } else { found.to_dtype(value.dtype())? }
            }
            _ => value,
        };
        match self.attachments.is_empty() {
            true => Ok(value),
            false => self.visit_attachments(site, value),
        }
    }

    /// Runs what was attached to a site.
    fn visit_attachments(&mut self, site: usize, mut value: Tensor) -> Result<Tensor> {
        let attachments = self.attachments;
        for attachment in attachments.iter().filter(|attachment| attachment.target == site) {
            match attachment.place {
                AttachmentRole::Probe => drop(attachment.module.call(&self.rounded(&value)?, self)?),
                AttachmentRole::Splice => value = attachment.module.call(&self.rounded(&value)?, self)?,
                AttachmentRole::Replace => {}
            }
        }
        Ok(value)
    }
}
