//! The planner's passes: one list, in their order.

use std::borrow::Cow;

use super::assemble::Assemble;
use super::batch_calls::BatchCalls;
use super::cse::Cse;
use super::fuse::Fuse;
use super::gradient::Gradients;
use super::liveness::{Liveness, Needed};
use super::lm_head::{CountFromTheEnd, Head};
use super::order::{Order, Ordered};
use super::schedule::{PassBatch, Plan, PlanContext, Share};
use super::share::Sharing;
use crate::graph::Graph;
use crate::sites::SiteTable;
use crate::{Error, Result};

/// The passes, in their order.
const PASSES: [&dyn Pass; 10] = [
    // What is written twice is found before anything is known of where it runs: all other passes then see it once.
    &Cse,
    // Changes where a reading of the head counts from, which later passes read off the graph.
    &CountFromTheEnd,
    // When each value can exist. Everything below speaks of that.
    &Ordered,
    // Which nodes are needed. It refuses what has no effect, so it comes before passes that could hide an edit.
    &Needed,
    // Whether a gradient arrives, along the order, for those that are needed.
    &Gradients,
    // Which runs share what, and which are in one batch: batches get their last numbers here.
    &Sharing,
    // Moves calls to the end of their batch, and so needs the batches; what runs where is read off the order afterwards.
    &BatchCalls,
    // Puts the nodes into the batches. From here on the order is the batches'.
    &Assemble,
    // For which positions of each batch the head is asked, by its readers in the batch.
    &Head,
    // Which values only their neighbour uses, at the same point of the same batch.
    &Fuse,
];

/// One pass of the planner.
pub(super) trait Pass: Sync {
    /// What it is called, as `explain` does.
    fn name(&self) -> &'static str;
    /// Whether it is made.
    fn is_on(&self, _context: &PlanContext<'_>) -> bool {
        true
    }
    /// Makes it. Returns in words what it did, if it did something that there is to say of.
    ///
    /// # Errors
    /// What it refuses, with the line.
    fn run(&self, draft: &mut Draft<'_, '_>) -> Result<Option<String>>;
}

/// A plan in the making.
pub(super) struct Draft<'g, 'a> {
    pub graph: Cow<'g, Graph>,
    pub table: &'a SiteTable,
    pub context: PlanContext<'a>,
    pub order: Order,
    pub liveness: Liveness,
    pub shares: Vec<Share>,
    pub batches: Vec<PassBatch>,
    pub uses: Vec<u32>,
    pub with_gradient: Vec<bool>,
    pub fused: Vec<bool>,
}

/// A graph with its plan.
pub struct Planned<'g> {
    /// The graph, which passes may have changed; its nodes have the numbers that they had.
    pub graph: Cow<'g, Graph>,
    /// What is run of it.
    pub plan: Plan,
    /// What each pass did that did something.
    pub did: Vec<(&'static str, String)>,
}

/// Plans a valid graph.
///
/// # Errors
/// [`Error::NoSite`], [`Error::TooLate`], [`Error::Circle`], [`Error::NoEffect`], [`Error::NoGradient`], [`Error::InsideSkipped`] or
/// [`Error::OutsideBranch`], each with the line.
pub fn plan<'g>(graph: &'g Graph, table: &SiteTable, context: PlanContext<'_>) -> Result<Planned<'g>> {
    let mut draft = Draft {
        graph: Cow::Borrowed(graph),
        table,
        context,
        order: Order::default(),
        liveness: Liveness::default(),
        shares: Vec::new(),
        batches: Vec::new(),
        uses: Vec::new(),
        with_gradient: Vec::new(),
        fused: vec![false; graph.nodes.len()],
    };
    let saved = context.infer.map(|infer| infer(graph)).transpose()?;
    let mut did = Vec::new();
    for pass in PASSES.iter().filter(|pass| pass.is_on(&context)) {
        did.extend(pass.run(&mut draft)?.map(|what| (pass.name(), what)));
        if let (Some(infer), Cow::Owned(changed), Some(saved)) = (context.infer, &draft.graph, &saved)
            && infer(changed)? != *saved
        {
            return Err(Error::Mismatch { op: pass.name().into(), problem: "the pass changes what is saved".into(), source_line: None });
        }
    }
    let Draft { graph, batches, uses, with_gradient, fused, .. } = draft;
    Ok(Planned { graph, plan: Plan { batches, uses, with_gradient, fused, stops: context.options.stop }, did })
}

/// How many of something there are: `1 node`, `3 nodes`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
