//! Runs whose only edit turns out to change nothing: they stay the base's, and what they read is read there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use candle_core::{DType, Tensor};
use nnsight_kernels as kernels;

use super::evaluate::{extents, unsqueeze};
use super::interleave::{Interleaver, Rows};
use crate::Result;
use crate::batch::Window;
use crate::graph::{InvokeId, NodeId, Op};
use crate::plan::Check;

/// The runs that may stay the base's, and what the base holds where they read.
#[derive(Default)]
pub(super) struct Cutoff {
    /// Whether the base is running.
    is_base: bool,
    checks: BTreeMap<usize, Vec<Check>>,
    /// Where the runs stand in the base.
    layout: HashMap<InvokeId, Rows>,
    window: Option<(usize, Window)>,
    /// The runs that stay, with the last stage that they visit.
    noops: HashMap<InvokeId, usize>,
    /// The sites that they may read.
    reads: BTreeSet<usize>,
    shown: HashMap<usize, Tensor>,
}

impl Interleaver<'_> {
    /// Prepares for the pass of a base; returns the sites that it has to look at for the sake of these checks. `reads` are those that the runs
    /// read after their edits.
    pub(super) fn start_checks(&mut self, checks: &BTreeMap<usize, Vec<Check>>, reads: &BTreeSet<usize>) -> Vec<usize> {
        let sites = checks.keys().chain(reads).copied().collect();
        self.cutoff = Cutoff {
            is_base: true,
            checks: checks.clone(),
            layout: self.layout.clone(),
            window: self.pass.window,
            reads: reads.clone(),
            ..Cutoff::default()
        };
        sites
    }

    /// Whether a run stays the base's.
    pub(super) fn is_noop(&self, invoke: InvokeId) -> bool {
        self.cutoff.noops.contains_key(&invoke)
    }

    /// The last stage that a run visits which stays the base's.
    pub(super) fn shows_until(&self) -> Option<usize> {
        self.cutoff.noops.values().max().copied()
    }

    /// Ends the pass of a base: what was not found to change nothing by now branches off.
    pub(super) fn end_checks(&mut self) {
        self.cutoff.is_base = false;
    }

    /// Looks at what the base holds at a site.
    pub(super) fn check(&mut self, site: usize, value: &Tensor) -> Result<()> {
        if !self.cutoff.is_base {
            return Ok(());
        }
        let checks = self.cutoff.checks.remove(&site).unwrap_or_default();
        for Check { invoke, edit, until } in checks {
            if self.writes_the_same(invoke, site, edit, value)? {
                self.cutoff.noops.insert(invoke, until);
            }
        }
        if !self.cutoff.noops.is_empty() && self.cutoff.reads.contains(&site) {
            self.cutoff.shown.insert(site, value.clone());
        }
        Ok(())
    }

    /// Whether an edit writes what is there already, bit for bit.
    fn writes_the_same(&self, invoke: InvokeId, site: usize, edit: NodeId, value: &Tensor) -> Result<bool> {
        let node = self.graph.node(edit);
        let Op::Set { region, .. } = &node.op else { return Ok(false) };
        // What it writes may come into being only in the branch itself.
        let Ok(new) = self.datum(node.args[0], edit) else { return Ok(false) };
        let own = self.read(invoke, site, value)?;
        let there = kernels::part(&own, &extents(region, own.dims())?)?;
        let new = unsqueeze(self.precision.tensor(new)?.to_dtype(there.dtype())?, region, there.rank())?.broadcast_as(there.shape())?;
        let bits = |tensor: &Tensor| -> candle_core::Result<Vec<u64>> {
            let flat = tensor.flatten_all()?;
            match flat.dtype() {
                DType::F64 => Ok(flat.to_vec1::<f64>()?.into_iter().map(f64::to_bits).collect()),
                _ => Ok(flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter().map(|x| u64::from(x.to_bits())).collect()),
            }
        };
        Ok(bits(&there)? == bits(&new)?)
    }

    /// What a run that stays the base's reads at a site.
    pub(super) fn read_base(&mut self, id: NodeId, invoke: InvokeId, site: usize) -> Result<Option<Tensor>> {
        let Some(shown) = self.cutoff.shown.get(&site).cloned() else { return Ok(None) };
        let own = (std::mem::replace(&mut self.layout, self.cutoff.layout.clone()), self.pass.window);
        self.pass.window = self.cutoff.window;
        let read = self.read(invoke, site, &shown);
        self.note_cut(id, site);
        (self.layout, self.pass.window) = own;
        Ok(Some(read?))
    }
}
