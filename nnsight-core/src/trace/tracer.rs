//! Records what a block does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use bumpalo::Bump;

use super::{Cursor, Interface};
use crate::graph::{
    At, Body, Constant, ConstantId, Function, FunctionId, Graph, Guard, Input, Invoke, InvokeId, Node, NodeId, Op, Region, Rollout, SiteId, Source,
    SourceId, Unused, Visited,
};
use crate::sites::SiteTable;
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
    /// Whether the points of a sweep are recorded.
    sweeps: bool,
    /// The loops that are being recorded, the outermost first.
    bodies: Vec<OpenBody>,
    /// The last reading of each site that is still what the model holds there.
    readings: Visited<Option<NodeId>>,
    /// The last edit of each site, and the number of nodes before it.
    edits: HashMap<(InvokeId, u32, usize), (usize, &'static Location<'static>)>,
    /// The invokes that see all prompts.
    wide: Vec<InvokeId>,
    /// Where handles to sites were made, and the number of nodes before it.
    stamps: Vec<(usize, &'static Location<'static>)>,
    /// Nodes that read a part of a site: the reading of all of it, and the part.
    parts: HashMap<NodeId, (NodeId, Region)>,
    errors: Vec<Error>,
}

/// When a handle to a site was made; none for a site that is written as a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    pub const NONE: Stamp = Stamp(0);
}

/// The body of a loop while it is recorded.
///
/// Its ids carry the number of loops around them in their upper bits, so that it is known of each what it belongs to. They get their final
/// numbers when the body is closed, since only then it is known how much it uses from outside.
struct OpenBody {
    /// What is carried, and the row where there is one.
    parameters: u32,
    /// What it uses from outside, by the ids that those have there.
    captured: Vec<NodeId>,
    nodes: Vec<Node>,
    /// The guards of the code around it.
    guards: Vec<Guard>,
}

/// Ids of a body: parameters, then captured values, then nodes, each in a range of its own.
const DEPTH: u32 = 1 << 28;
const CAPTURED: u32 = 1 << 26;
const NODES: u32 = 1 << 27;

/// Loops inside of each other, at most. One more is refused, and recorded at the same depth: its ids must not overflow until then.
const DEEPEST: usize = 9;

/// The first id of a depth.
fn base(depth: usize) -> u32 {
    depth.min(DEEPEST) as u32 * DEPTH
}

fn depth(id: NodeId) -> usize {
    (id.0 / DEPTH) as usize
}

// What is recorded is whole after every call: a panic of the program in between leaves no half of a node.
impl std::panic::RefUnwindSafe for Tracer {}

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

    /// Begins a run on new inputs, which goes on as `rollout` says.
    #[track_caller]
    pub fn invoke(&self, inputs: Vec<Input>, rollout: Option<Rollout>) -> InvokeId {
        self.push_invoke(Invoke { inputs, all_inputs: false, rollout, source: Some(Location::caller().into()) })
    }

    /// Looks at the runs on all inputs of the trace side by side.
    #[track_caller]
    pub fn all_inputs(&self, rollout: Option<Rollout>) -> InvokeId {
        self.push_invoke(Invoke { inputs: Vec::new(), all_inputs: true, rollout, source: Some(Location::caller().into()) })
    }

    /// As [`Self::all_inputs`].
    #[deprecated(since = "0.2.0", note = "renamed to `all_inputs`")]
    #[track_caller]
    pub fn everything(&self, rollout: Option<Rollout>) -> InvokeId {
        self.all_inputs(rollout)
    }

    fn push_invoke(&self, invoke: Invoke) -> InvokeId {
        let mut recording = self.recording.borrow_mut();
        let id = InvokeId(recording.graph.invokes.len() as u32);
        if invoke.all_inputs {
            recording.wide.push(id);
        }
        recording.graph.invokes.push(invoke);
        id
    }

    /// From here on, an edit that reaches nothing is left out if others of its line reach something.
    pub(crate) fn begin_sweep(&self) {
        self.recording.borrow_mut().sweeps = true;
    }

    /// The sites of a model at one pass; outside of any, only its modules can be used.
    pub fn sites<M: Interface>(&self, at: Option<At>) -> M::Sites<'_> {
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
        if let Some(&Some(node)) = recording.readings.get(&recording.graph, at, site) {
            return node;
        }
        let node = recording.push(Op::Get { at, site: id }, &[], Location::caller());
        if recording.guards.is_empty() {
            let Recording { graph, readings, .. } = &mut *recording;
            *readings.entry(graph, at, site) = Some(node);
        }
        node
    }

    /// Remembers this line.
    #[track_caller]
    pub(crate) fn stamp(&self) -> Stamp {
        let mut recording = self.recording.borrow_mut();
        let nodes = recording.graph.nodes.len();
        recording.stamps.push((nodes, Location::caller()));
        Stamp(recording.stamps.len() as u32)
    }

    /// Takes a part of a value. Of what was read from a site, it stays a part of that.
    #[track_caller]
    pub(crate) fn part(&self, value: NodeId, region: Region) -> NodeId {
        let part = self.push(Op::Slice(region.clone()), &[value]);
        let mut recording = self.recording.borrow_mut();
        let of_site = match recording.parts.get(&value) {
            Some((whole, outer)) => Some((*whole, outer.then(&region))),
            None if matches!(recording.graph.nodes.get(value.0 as usize), Some(Node { op: Op::Get { .. }, .. })) => Some((value, region)),
            None => None,
        };
        if let Some(found) = of_site {
            recording.parts.insert(part, found);
        }
        part
    }

    /// Of a node that reads a part of a site, the reading of all of it and the part.
    pub(crate) fn whole_of(&self, part: NodeId) -> Option<(NodeId, Region)> {
        self.recording.borrow().parts.get(&part).cloned()
    }

    /// Refuses to read through a handle that was made before the last edit of its site.
    #[track_caller]
    pub(crate) fn check_stamp(&self, stamp: Stamp, at: Option<At>, site: usize) {
        let mut recording = self.recording.borrow_mut();
        let Some(at) = at.filter(|_| stamp != Stamp::NONE) else { return };
        let (made, handle_line) = recording.stamps[stamp.0 as usize - 1];
        let Some(edit_line) = recording.edited_since(made, at, site) else { return };
        let site = self.table.sites().get(site).map(|site| site.path.clone()).unwrap_or_default();
        let (handle_line, edit_line) = (Box::new(handle_line.into()), Box::new(edit_line.into()));
        recording.errors.push(Error::StaleSite { site, handle_line, edit_line, source_line: Some(Location::caller().into()) });
    }

    #[track_caller]
    pub(crate) fn set(&self, at: Option<At>, site: usize, region: Region, value: NodeId, unused: Unused) {
        let unused = self.unused(unused);
        self.write(at, site, |at, site| Op::Set { at, site, region, unused }, &[value]);
    }

    fn unused(&self, unused: Unused) -> Unused {
        match unused {
            Unused::Refuse if self.recording.borrow().sweeps => Unused::Sweep,
            other => other,
        }
    }

    #[track_caller]
    pub(crate) fn skip(&self, at: Option<At>, site: usize, value: NodeId) {
        let unused = self.unused(Unused::Refuse);
        self.write(at, site, |at, site| Op::Skip { at, site, unused }, &[value]);
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
            readings.forget(graph, at, site);
            let nodes = recording.graph.nodes.len();
            recording.edits.insert((at.invoke, at.step, site), (nodes, Location::caller()));
            recording.push(op(at, id), args, Location::caller());
        }
    }

    #[track_caller]
    pub(crate) fn fail(&self, error: impl FnOnce(Option<Source>) -> Error) {
        self.recording.borrow_mut().errors.push(error(Some(Location::caller().into())));
    }

    #[track_caller]
    pub(crate) fn open_branch(&self, Guard { condition, when }: Guard) {
        let mut recording = self.recording.borrow_mut();
        let condition = recording.inside(condition, Location::caller());
        recording.guards.push(Guard { condition, when });
    }

    pub(crate) fn close_branch(&self) {
        self.recording.borrow_mut().guards.pop();
    }

    /// Begins the body of a loop with so many parameters; gives their ids.
    #[track_caller]
    pub(crate) fn open_body(&self, parameters: usize) -> Vec<NodeId> {
        let mut recording = self.recording.borrow_mut();
        if recording.bodies.len() == DEEPEST {
            recording.errors.push(Error::InLoop { what: "a loop inside of eight others", source_line: Some(Location::caller().into()) });
        }
        let guards = std::mem::take(&mut recording.guards);
        recording.bodies.push(OpenBody { parameters: parameters as u32, captured: Vec::new(), nodes: Vec::new(), guards });
        let base = base(recording.bodies.len());
        (0..parameters as u32).map(|index| NodeId(base + index)).collect()
    }

    /// Ends the body that was opened last, and records the loop; gives the values that it ends with.
    #[track_caller]
    pub(crate) fn close_body(&self, initial: &[NodeId], over: Option<(NodeId, usize)>, condition: Option<NodeId>, yields: &[NodeId]) -> Vec<NodeId> {
        let mut recording = self.recording.borrow_mut();
        let location = Location::caller();
        let yields = yields.iter().map(|&id| recording.inside(id, location)).collect::<Vec<_>>();
        let condition = condition.map(|id| recording.inside(id, location));
        let Some(open) = recording.bodies.pop() else { return initial.to_vec() };
        recording.guards = open.guards;
        let (parameters, captured) = (open.parameters, open.captured.len() as u32);
        let renumber = |id: NodeId| match id.0 % DEPTH {
            node if node >= NODES => NodeId(parameters + captured + node - NODES),
            outside if outside >= CAPTURED => NodeId(parameters + outside - CAPTURED),
            parameter => NodeId(parameter),
        };
        let nodes = open.nodes.into_iter().map(|mut node| {
            node.args.iter_mut().for_each(|arg| *arg = renumber(*arg));
            node.guards.iter_mut().for_each(|guard| guard.condition = renumber(guard.condition));
            node
        });
        let body = Body {
            loop_carried: initial.len(),
            over: over.map(|(_, axis)| axis),
            captured: open.captured.len(),
            nodes: nodes.collect(),
            condition: condition.map(renumber),
            yields: yields.into_iter().map(renumber).collect(),
            limit: Body::ROUNDS,
        };
        let args = initial.iter().copied().chain(over.map(|(rows, _)| rows)).chain(open.captured).collect::<Vec<_>>();
        let repeated = recording.push(Op::Loop(Box::new(body)), &args, location);
        (0..initial.len()).map(|index| recording.push(Op::Item { index }, &[repeated], location)).collect()
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
        let level = self.bodies.len();
        let what = match op {
            _ if level == 0 => None,
            // What the model holds does not change while a loop repeats: it is read before.
            Op::Get { .. } => return self.push_at(0, op, args, location),
            Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. } => Some("writing to the model"),
            Op::Output { .. } => Some("looking at what comes out of a rollout"),
            Op::Grad | Op::SetGrad => Some("a gradient"),
            _ => None,
        };
        if let Some(what) = what {
            self.errors.push(Error::InLoop { what, source_line: Some(location.into()) });
            return self.push_at(level, Op::Scalar(0.0), &[], location);
        }
        let args = args.iter().map(|&arg| self.inside(arg, location)).collect::<Vec<_>>();
        self.push_at(level, op, &args, location)
    }

    /// The id under which the loop that is being recorded knows a value; one from outside becomes a parameter.
    fn inside(&mut self, id: NodeId, location: &'static Location<'static>) -> NodeId {
        let level = self.bodies.len();
        if depth(id) > level {
            self.errors.push(Error::OutsideBranch { source_line: Some(location.into()) });
            return NodeId(0);
        }
        (depth(id)..level).fold(id, |id, outer| {
            let captured = &mut self.bodies[outer].captured;
            let index = captured.iter().position(|&other| other == id).unwrap_or_else(|| {
                captured.push(id);
                captured.len() - 1
            });
            NodeId(base(outer + 1) + CAPTURED + index as u32)
        })
    }

    fn push_at(&mut self, level: usize, op: Op, args: &[NodeId], location: &'static Location<'static>) -> NodeId {
        if self.last_source != Some(location) {
            self.last_source = Some(location);
            self.graph.sources.push(location.into());
        }
        let source = SourceId(self.graph.sources.len() as u32 - 1);
        let guards = if level == self.bodies.len() { self.guards.clone() } else { Vec::new() };
        let nodes = match level.checked_sub(1) {
            None => &mut self.graph.nodes,
            Some(body) => &mut self.bodies[body].nodes,
        };
        let base = if level == 0 { 0 } else { base(level) + NODES };
        nodes.push(Node { op, args: args.to_vec(), guards, source });
        NodeId(base + nodes.len() as u32 - 1)
    }

    /// The line of an edit of a site that is not older than so many nodes.
    fn edited_since(&self, nodes: usize, at: At, site: usize) -> Option<&'static Location<'static>> {
        let invokes = match self.wide.contains(&at.invoke) {
            true => (0..self.graph.invokes.len() as u32).map(InvokeId).collect(),
            false => [&self.wide[..], &[at.invoke]].concat(),
        };
        let edits = invokes.into_iter().filter_map(|invoke| self.edits.get(&(invoke, at.step, site)));
        edits.filter(|(edit, _)| *edit >= nodes).map(|(_, line)| *line).next()
    }

    /// The graph's names for a visit to a site, or `None` after noting down why there are none.
    fn resolve(&mut self, table: &SiteTable, at: Option<At>, site: usize, location: &'static Location<'static>) -> Option<(At, SiteId)> {
        let info = table.sites().get(site)?;
        let Some(at) = at else {
            self.errors.push(Error::OutsideInvoke { site: info.path.clone(), source_line: Some(location.into()) });
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
