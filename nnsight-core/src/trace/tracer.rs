//! Records what a block does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use bumpalo::Bump;

use super::prompt::IntoPrompts;
use crate::graph::{
    At, Constant, ConstantId, Function, FunctionId, Generation, Graph, Guard, Invoke, InvokeId, Node, NodeId, Op, Region, SiteId, Source, SourceId,
    Unused,
};
use crate::module::{Cursor, Instrument, SiteTable};
use crate::{Error, Result};

/// Records what a block does as a [`Graph`]. Values and sites borrow it, which is what keeps them inside of the block.
pub struct Tracer {
    table: Arc<SiteTable>,
    memory: Bump,
    recording: RefCell<Recording>,
}

#[derive(Default)]
struct Recording {
    graph: Graph,
    site_ids: HashMap<usize, SiteId>,
    last_source: Option<&'static Location<'static>>,
    guards: Vec<Guard>,
    /// The last reading of each site that is still what the model holds there.
    readings: HashMap<Visit, NodeId>,
    errors: Vec<Error>,
}

/// Invoke, step and site.
type Visit = (InvokeId, u32, usize);

impl Tracer {
    /// Starts recording on a model with these sites.
    pub fn new(table: Arc<SiteTable>) -> Self {
        let graph = Graph { signature: table.signature.clone(), ..Graph::default() };
        Tracer { table, memory: Bump::new(), recording: RefCell::new(Recording { graph, ..Recording::default() }) }
    }

    /// The sites of the model.
    pub fn table(&self) -> &SiteTable {
        &self.table
    }

    /// Begins a run on new prompts, which are continued as `generation` says.
    pub fn invoke(&self, prompts: impl IntoPrompts, generation: Option<Generation>) -> InvokeId {
        self.push_invoke(Invoke { prompts: prompts.into_prompts(), everything: false, generation })
    }

    /// Looks at the runs on all prompts of the trace side by side.
    pub fn everything(&self, generation: Option<Generation>) -> InvokeId {
        self.push_invoke(Invoke { prompts: Vec::new(), everything: true, generation })
    }

    fn push_invoke(&self, invoke: Invoke) -> InvokeId {
        let invokes = &mut self.recording.borrow_mut().graph.invokes;
        invokes.push(invoke);
        InvokeId(invokes.len() as u32 - 1)
    }

    /// The sites of a model at one pass; outside of any, only its modules can be used.
    pub fn sites<M: Instrument>(&self, at: Option<At>) -> M::Sites<'_> {
        M::sites(&mut Cursor::new(self, at))
    }

    /// Keeps a list for as long as the trace.
    pub(crate) fn keep<T: Copy>(&self, items: Vec<T>) -> &[T] {
        self.memory.alloc_slice_copy(&items)
    }

    #[track_caller]
    pub(crate) fn push(&self, op: Op, args: &[NodeId]) -> NodeId {
        self.recording.borrow_mut().push(op, args, Location::caller())
    }

    #[track_caller]
    pub(crate) fn constant(&self, constant: Constant) -> NodeId {
        let mut recording = self.recording.borrow_mut();
        let id = ConstantId(recording.graph.constants.len() as u32);
        recording.graph.constants.push(constant);
        recording.push(Op::Constant(id), &[], Location::caller())
    }

    /// Adds a function of the program.
    pub(crate) fn function(&self, function: Function) -> FunctionId {
        let functions = &mut self.recording.borrow_mut().graph.functions;
        functions.push(function);
        FunctionId(functions.len() as u32 - 1)
    }

    #[track_caller]
    pub(crate) fn get(&self, at: Option<At>, site: usize) -> NodeId {
        let mut recording = self.recording.borrow_mut();
        let Some((at, id)) = recording.resolve(&self.table, at, site, Location::caller()) else {
            return recording.push(Op::Scalar(0.0), &[], Location::caller());
        };
        let visit = (at.invoke, at.step, site);
        if let Some(&node) = recording.readings.get(&visit) {
            return node;
        }
        let node = recording.push(Op::Get { at, site: id }, &[], Location::caller());
        if recording.guards.is_empty() {
            recording.readings.insert(visit, node);
        }
        node
    }

    #[track_caller]
    pub(crate) fn set(&self, at: Option<At>, site: usize, region: Region, value: NodeId, unused: Unused) {
        self.write(at, site, |at, site| Op::Set { at, site, region, unused }, &[value]);
    }

    #[track_caller]
    pub(crate) fn skip(&self, at: Option<At>, site: usize, value: NodeId) {
        self.write(at, site, |at, site| Op::Skip { at, site, unused: Unused::Refuse }, &[value]);
    }

    #[track_caller]
    pub(crate) fn stop(&self, at: Option<At>, site: usize) {
        self.write(at, site, |at, site| Op::Stop { at, site }, &[]);
    }

    #[track_caller]
    fn write(&self, at: Option<At>, site: usize, op: impl FnOnce(At, SiteId) -> Op, args: &[NodeId]) {
        let mut recording = self.recording.borrow_mut();
        if let Some((at, id)) = recording.resolve(&self.table, at, site, Location::caller()) {
            let Recording { graph, readings, .. } = &mut *recording;
            readings.retain(|&(invoke, step, read), _| (step, read) != (at.step, site) || !graph.share_rows(invoke, at.invoke));
            recording.push(op(at, id), args, Location::caller());
        }
    }

    #[track_caller]
    pub(crate) fn fail(&self, error: impl FnOnce(Source) -> Error) {
        self.recording.borrow_mut().errors.push(error(Location::caller().into()));
    }

    pub(crate) fn open_branch(&self, guard: Guard) {
        self.recording.borrow_mut().guards.push(guard);
    }

    pub(crate) fn close_branch(&self) {
        self.recording.borrow_mut().guards.pop();
    }

    /// Ends the recording: the graph, with these values to give back.
    ///
    /// # Errors
    /// What was wrong with the use of a site, with its line in the program.
    pub fn finish(&self, saves: Vec<NodeId>) -> Result<Graph> {
        let mut recording = std::mem::take(&mut *self.recording.borrow_mut());
        if !recording.errors.is_empty() {
            return Err(recording.errors.swap_remove(0));
        }
        if let Some(guard) = recording.guards.first() {
            return Err(Error::OpenBranch { source_line: recording.graph.source(guard.condition) });
        }
        Ok(Graph { saves, ..recording.graph })
    }
}

impl Recording {
    fn push(&mut self, op: Op, args: &[NodeId], location: &'static Location<'static>) -> NodeId {
        if self.last_source != Some(location) {
            self.last_source = Some(location);
            self.graph.sources.push(location.into());
        }
        let source = SourceId(self.graph.sources.len() as u32 - 1);
        let id = NodeId(self.graph.nodes.len() as u32);
        self.graph.nodes.push(Node { op, args: args.to_vec(), guards: self.guards.clone(), source });
        id
    }

    /// The graph's names for a visit to a site, or `None` after noting down why there are none.
    fn resolve(&mut self, table: &SiteTable, at: Option<At>, site: usize, location: &'static Location<'static>) -> Option<(At, SiteId)> {
        let info = table.sites().get(site)?;
        let Some(at) = at else {
            self.errors.push(Error::NoPrompt { site: info.path.clone(), source_line: location.into() });
            return None;
        };
        let sites = &mut self.graph.sites;
        let id = *self.site_ids.entry(site).or_insert_with(|| {
            sites.push(info.path.clone());
            SiteId(sites.len() as u32 - 1)
        });
        Some((at, id))
    }
}
