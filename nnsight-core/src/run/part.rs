//! Which part of what the model holds belongs to an invoke, and reading and writing it.

use crate::graph::{AxisRole, Facts, InvokeId, KindTag, NodeId, Region, Source, Span};
use candle_core::{DType, Tensor, bail};
use nnsight_kernels::{self as kernels, Extent, MaybeOwned};

use super::evaluate::{Datum, extents, unsqueeze};
use super::interleave::{Interleaver, Rows};
use super::whole;
use crate::batch::Window;
use crate::{Error, Result};

impl Interleaver<'_> {
    /// The rows and positions of an invoke in the value that a site holds.
    pub(super) fn extents_of(&self, invoke: InvokeId, site: usize) -> Vec<Extent> {
        let facts: &Facts = &self.table.sites()[site].facts;
        let Rows { rows, positions, before } = self.layout[&invoke];
        let one = Span { start: 0, len: 1 };
        let now = match self.window(site) {
            _ if self.pass.step > 0 => one,
            Some(window) => {
                let held = window.span(self.pass.batch.1);
                let start = positions.start.max(held.start);
                Span { start: start - held.start, len: (held.start + held.len).saturating_sub(start) }
            }
            None => positions,
        };
        let keys = Span { start: positions.start, len: positions.len + before + self.pass.step as usize };
        let extent = |(axis, role): (usize, AxisRole)| match role {
            AxisRole::Row => Some(Extent { axis, span: rows }),
            AxisRole::Position | AxisRole::Query => Some(Extent { axis, span: now }),
            AxisRole::Key => Some(Extent { axis, span: keys }),
            _ => None,
        };
        facts.axes.iter().map(|axis| axis.role).enumerate().filter_map(extent).collect()
    }

    /// The positions that the model holds at a site, where those are not all.
    fn window(&self, site: usize) -> Option<Window> {
        self.pass.window.filter(|(head, _)| self.table.rank(site) >= self.table.rank(*head)).map(|(_, window)| window)
    }

    /// Remembers of a reading that it is without the last positions, where it is.
    pub(super) fn note_cut(&mut self, id: NodeId, site: usize) {
        if let Some(window) = self.window(site).filter(|window| window.behind > 0)
            && let Some(axis) = self.table.sites()[site].facts.along(|role| role == AxisRole::Position)
        {
            self.cut.insert(id, (axis, window.behind));
        }
    }

    /// The axis along which the model holds only the later positions of an invoke's prompt at a site, and how many come before.
    fn missing(&self, invoke: InvokeId, site: usize) -> Option<(usize, usize)> {
        let before = self.layout[&invoke].before;
        let cut = before > 0 && self.window(site).is_none();
        let axis = self.table.sites()[site].facts.along(AxisRole::is_of_pass);
        axis.filter(|_| cut).map(|axis| (axis, before))
    }

    pub(super) fn read(&self, invoke: InvokeId, site: usize, value: &Tensor) -> candle_core::Result<Tensor> {
        let mut part = kernels::part(value, &self.extents_of(invoke, site))?;
        if let Some((axis, before)) = self.missing(invoke, site) {
            // Nobody looks at these: a run branches off at the first position that it reads.
            part = part.pad_with_zeros(axis, before, 0)?;
        }
        match self.table.sites()[site].facts.kind {
            KindTag::Int => part.to_dtype(candle_core::DType::I64),
            KindTag::Float | KindTag::Bool => Ok(part),
        }
    }

    /// Writes into an invoke's part of what a site holds: in place if nobody else holds that.
    pub(super) fn write(
        &self,
        (invoke, site): (InvokeId, usize),
        whole: MaybeOwned,
        region: &Region,
        value: &Datum,
    ) -> candle_core::Result<MaybeOwned> {
        let mut all = self.extents_of(invoke, site);
        let mut dims = kernels::part_dims(whole.dims(), &all)?;
        let missing = self.missing(invoke, site);
        if let Some((axis, before)) = missing {
            dims[axis] += before;
        }
        let mut inside = extents(region, &dims)?;
        if let Some((axis, before)) = missing {
            // The first step along the axis is counted from its first position; those behind it from what is left.
            if let Some(first) = inside.iter_mut().find(|extent| extent.axis == axis) {
                first.span.start =
                    first.span.start.checked_sub(before).ok_or_else(|| candle_core::Error::Msg("a position before the branch".into()))?;
            }
        }
        all.extend(inside);
        let value = match value {
            Datum::Tensor(tensor) => tensor.clone(),
            other => self.precision.tensor(other)?.to_dtype(whole.dtype())?,
        };
        if whole.dtype() == DType::U32 && whole::holds(&value) {
            check_unsigned(&value)?;
        }
        let value = unsqueeze(value, region, whole.rank())?;
        kernels::patch_owned(whole, &all, &value)
    }

    /// Zeros in the shape that a site has in this pass.
    pub(super) fn blank(&self, site: usize, source_line: Option<Source>) -> Result<Tensor> {
        let (rows, width) = self.pass.batch;
        let sizes = self.table.sites()[site].facts.axes.iter().map(|axis| match axis.role {
            AxisRole::Row => Some(rows),
            AxisRole::Position => Some(width),
            _ => axis.size,
        });
        let sizes = sizes.collect::<Option<Vec<_>>>().ok_or_else(|| Error::NotPassed { site: self.table.sites()[site].path.clone(), source_line })?;
        Ok(Tensor::zeros(sizes, self.precision.dtype, self.precision.device)?)
    }
}

/// Refuses whole numbers that would become others in the 32 bits of token ids.
fn check_unsigned(value: &Tensor) -> candle_core::Result<()> {
    let entries = value.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    match entries.into_iter().find(|entry| u32::try_from(*entry).is_err()) {
        None => Ok(()),
        Some(entry) => bail!("{entry} is no token id"),
    }
}
