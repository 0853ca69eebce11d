//! What comes with a graph, and what a pass has to look at for it.

use super::inputs::Inputs;
use crate::graph::Limits;
use crate::observer::Observer;
use crate::plan::{Optimizations, SiteVisit};

/// What comes with a graph when it is run.
pub struct Request<'a, 't> {
    /// What it is run on.
    pub inputs: &'a dyn Inputs,
    /// Which optimizations are made.
    pub optimizations: Optimizations,
    /// How much the graph may ask for.
    pub limits: Limits,
    /// Who is told of it while it goes on.
    pub observer: Observer<'t>,
}

/// For each site whether it is used at a step.
pub(super) fn used_sites(visits: &[SiteVisit], step: u32, sites: usize) -> Vec<bool> {
    let mut used = vec![false; sites];
    let first = visits.partition_point(|visit| visit.step < step);
    visits[first..].iter().take_while(|visit| visit.step == step).for_each(|visit| used[visit.site] = true);
    used
}
