//! What is run, in which order: the planner's result.

use std::collections::{BTreeMap, BTreeSet};

use super::Optimizations;
use crate::Result;
use crate::batch::Window;
use crate::graph::{Facts, Graph, InvokeId, NodeId, Rollout, Span};

/// What is run: some forward passes one after the other, and what happens at which site of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The batches of prompts, each with its forward passes.
    pub batches: Vec<PassBatch>,
    /// How many nodes use each value, saves included.
    pub uses: Vec<u32>,
    /// Of which values a gradient is asked for.
    pub with_gradient: Vec<bool>,
    /// Which values are computed in one pass with their only user.
    pub fused: Vec<bool>,
    /// Whether a pass ends where nothing more is needed.
    pub stops: bool,
}

/// One run of a batch of invokes: a forward pass, and those that follow it where it is continued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassBatch {
    /// What is in the batch.
    pub invokes: Vec<InvokeId>,
    /// How it is continued.
    pub rollout: Option<Rollout>,
    /// What runs before the pass.
    pub before: Vec<NodeId>,
    /// What runs at which site, in the order of the passes.
    pub visits: Vec<SiteVisit>,
    /// What runs after the last step, because it needs the generated tokens.
    pub after: Vec<NodeId>,
    /// The positions at which the head is needed, where not at all of them.
    pub window: Option<Window>,
    /// What it has in common with others.
    pub share: Share,
}

impl PassBatch {
    /// How many passes there are at most.
    pub fn steps(&self) -> usize {
        self.rollout.as_ref().map_or(1, |rollout| rollout.steps.max(1))
    }
}

/// What a batch has in common with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Nothing.
    #[default]
    Nothing,
    /// Equal prompts stand in it once, and others branch off from it.
    Base {
        /// The rows of each invoke's prompts.
        rows: BTreeMap<InvokeId, Span>,
        /// The stages at which others branch off.
        keeps: BTreeSet<usize>,
        /// The last stage that others need.
        until: usize,
        /// Whether they need its keys and values.
        remembers: bool,
        /// The runs that have one edit only, by its site: where it writes what is there already, the run stays the base's.
        checks: BTreeMap<usize, Vec<Check>>,
        /// The sites that those read after their edit.
        reads: BTreeSet<usize>,
    },
    /// It branches off from another.
    Branch {
        /// From which batch.
        base: usize,
        /// From which of its rows, all of which each invoke has.
        rows: Span,
        /// At which position.
        from: usize,
        /// Its invokes in the order in which they come in, each with the stage.
        entries: Vec<(InvokeId, usize)>,
    },
}

/// A run whose only edit may turn out to change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The run.
    pub invoke: InvokeId,
    /// The edit.
    pub edit: NodeId,
    /// The last stage that the run visits.
    pub until: usize,
}

/// What runs while a pass reaches a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteVisit {
    /// The step of the generation; 0 is the prompt's own pass.
    pub step: u32,
    /// The site.
    pub site: usize,
    /// What runs.
    pub node: NodeId,
}

/// What a plan needs to know beside the graph and the sites.
#[derive(Clone, Copy)]
pub struct PlanContext<'a> {
    /// Which optimizations are made.
    pub options: Optimizations,
    /// The first site of the model's last stage, if that treats every position by itself.
    pub head: Option<usize>,
    /// The numbers of positions of the invokes, if all inputs of one have the same.
    pub lengths: &'a [Option<usize>],
    /// Those of the longest input of each.
    pub longest: &'a [usize],
    /// Whether somebody looks at what steps yield as they do.
    pub streams: bool,
    /// Whether runs on equal inputs can share what they have in common: the model is a first stage, layers and a last stage.
    pub can_share: bool,
    /// Whether they can share positions too.
    pub can_share_positions: bool,
    /// What is known of every value, if applications of a module are to be merged.
    pub facts: &'a [Facts],
    /// Finds what is known of the values that a graph saves, so that passes that change the graph can be held against it.
    pub infer: Option<&'a dyn Fn(&Graph) -> Result<Vec<Facts>>>,
}

impl Default for PlanContext<'_> {
    /// Without any optimization.
    fn default() -> Self {
        PlanContext {
            options: Optimizations::naive(),
            head: None,
            lengths: &[],
            longest: &[],
            streams: false,
            can_share: false,
            can_share_positions: false,
            facts: &[],
            infer: None,
        }
    }
}
