//! Edits of a model that every trace on an edited view of it begins with.

use std::fmt::{Display, Formatter};
use std::ops::Deref;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use super::{Fingerprint, Traceable};
use crate::graph::{At, ConstantId, Facts, FunctionId, Graph, InvokeId, Limits, Node, NodeId, Op, SiteId, SourceId, Unreached, Unused};
use crate::observer::Observer;
use crate::sites::SiteTable;
use crate::types::Saved;
use crate::{Error, Result};

/// One edit: what it does to every prompt, at every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    graph: Graph,
}

impl Edit {
    /// From a graph with one invoke, which stands for every prompt.
    ///
    /// # Errors
    /// [`Error::Edit`] where the graph has something that has no place in an edit: prompts, saved values, a generation, an end; all of
    /// [`Graph::validate`].
    pub fn new(mut graph: Graph) -> Result<Self> {
        let refused = |problem: &str, source_line| Err(Error::Edit { problem: problem.to_string(), source_line });
        if graph.invokes.len() != 1 || !graph.invokes[0].all_inputs || !graph.saves.is_empty() {
            return refused("it is for every prompt, and so neither has prompts of its own nor saves anything", None);
        }
        for (id, node) in graph.iter() {
            match node.op {
                Op::Output { .. } => return refused("it does not see what comes out of a rollout", graph.source(id)),
                Op::Stop { .. } => return refused("it cannot end a run", graph.source(id)),
                Op::Grad | Op::SetGrad => return refused("it has no gradients", graph.source(id)),
                _ => {}
            }
        }
        graph.validate(&Limits::default())?;
        // It may be part of a trace that reads nothing of what it does.
        for node in &mut graph.nodes {
            if let Op::Set { unused, .. } | Op::Skip { unused, .. } = &mut node.op {
                *unused = Unused::Drop;
            }
        }
        Ok(Edit { graph })
    }

    /// What it does, as a graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}

impl Display for Edit {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let lines = self.graph.iter().filter(|(_, node)| node.op.has_effect()).map(|(id, _)| self.graph.line(id)).collect::<Vec<_>>();
        f.write_str(&lines.join("; "))
    }
}

/// Edits in the order in which they are made. It prints one a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    edits: Vec<Edit>,
}

impl Edits {
    /// Adds an edit behind all others.
    pub fn push(&mut self, edit: Edit) {
        self.edits.push(edit);
    }

    /// Takes all edits away.
    pub fn clear(&mut self) {
        self.edits.clear();
    }

    /// The edits.
    pub fn iter(&self) -> std::slice::Iter<'_, Edit> {
        self.edits.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.edits.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Writes them to a file, as JSON.
    ///
    /// # Errors
    /// Where the file cannot be written, or an edit applies a closure.
    #[track_caller]
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let place = Some(Location::caller().into());
        let graphs = self.edits.iter().map(|edit| edit.graph.to_json()).collect::<Result<Vec<_>>>();
        let saved = graphs.and_then(|graphs| Ok(std::fs::write(path, graphs.join("\n"))?));
        saved.map_err(|error| error.or_at(place))
    }

    /// Reads what [`Edits::save`] wrote.
    ///
    /// # Errors
    /// Where the file cannot be read, and as [`Graph::from_json`].
    #[track_caller]
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let place = Some(Location::caller().into());
        let text = std::fs::read_to_string(path).map_err(Error::from);
        let edits = text.and_then(|text| text.lines().map(|line| Edit::new(Graph::from_json(line)?)).collect::<Result<Vec<_>>>());
        edits.map(|edits| Edits { edits }).map_err(|error| error.or_at(place))
    }

    /// Puts the edits before everything that a graph does, for each of its prompts and at each step.
    ///
    /// # Errors
    /// [`Error::OtherModel`] where an edit was made on another model; all of [`Graph::validate`], also where the graph would have more nodes than
    /// the limits allow.
    pub fn apply(&self, graph: Graph, limits: &Limits) -> Result<Graph> {
        if self.is_empty() {
            return Ok(graph);
        }
        graph.validate(limits)?;
        self.check_size(&graph, limits)?;
        let mut edited = Graph { nodes: Vec::new(), ..graph.clone() };
        for edit in &self.edits {
            if edit.graph.signature != graph.signature {
                return Err(Error::OtherModel { graph: edit.graph.signature.clone(), model: graph.signature, source_line: None });
            }
            insert(&edit.graph, &mut edited);
        }
        let shift = edited.nodes.len() as u32;
        edited.nodes.extend(graph.nodes.iter().map(|node| moved(node, |id| NodeId(id.0 + shift))));
        edited.saves = graph.saves.iter().map(|save| NodeId(save.0 + shift)).collect();
        Ok(edited)
    }
}

impl Edits {
    /// Refuses edits that would come to too many nodes, before there is one of them.
    fn check_size(&self, graph: &Graph, limits: &Limits) -> Result<()> {
        let own = graph.invokes.iter().filter(|invoke| !invoke.all_inputs);
        let passes = own.map(|invoke| invoke.steps()).fold(0, usize::saturating_add);
        let nodes = self.edits.iter().map(|edit| edit.graph.nodes.len()).fold(0, usize::saturating_add);
        let found = nodes.saturating_mul(passes).saturating_add(graph.nodes.len());
        match found <= limits.nodes.min(u32::MAX as usize) {
            true => Ok(()),
            false => Err(Error::TooLarge { what: "nodes, edits at each step included", found, limit: limits.nodes, source_line: None }),
        }
    }
}

impl Display for Edits {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.edits.iter().try_for_each(|edit| writeln!(f, "{edit}"))
    }
}

/// A node with other ids for what it uses.
fn moved(node: &Node, id: impl Fn(NodeId) -> NodeId) -> Node {
    let mut node = node.clone();
    node.args.iter_mut().for_each(|arg| *arg = id(*arg));
    node.guards.iter_mut().for_each(|guard| guard.condition = id(guard.condition));
    node
}

/// Puts the nodes of an edit into a graph, once for each prompt and step.
fn insert(edit: &Graph, into: &mut Graph) {
    let (constants, functions, sources) = (into.constants.len() as u32, into.functions.len() as u32, into.sources.len() as u32);
    into.constants.extend(edit.constants.iter().cloned());
    into.functions.extend(edit.functions.iter().cloned());
    into.sources.extend(edit.sources.iter().cloned());
    let sites = edit.sites.iter().map(|path| site(into, path)).collect::<Vec<_>>();
    let own = (0..into.invokes.len()).filter(|&invoke| !into.invokes[invoke].all_inputs).collect::<Vec<_>>();
    for invoke in own {
        let steps = into.invokes[invoke].steps();
        for step in 0..steps as u32 {
            let shift = into.nodes.len() as u32;
            let unreached = if step == 0 { Unreached::Refuse } else { Unreached::Drop };
            let here = At { invoke: InvokeId(invoke as u32), step, unreached };
            for node in &edit.nodes {
                let mut node = moved(node, |id| NodeId(id.0 + shift));
                node.source = SourceId(node.source.0 + sources);
                match &mut node.op {
                    Op::Get { at, site } | Op::Set { at, site, .. } | Op::Skip { at, site, .. } => {
                        *at = here;
                        *site = sites[site.index()];
                    }
                    op => move_tables(op, constants, functions),
                }
                into.nodes.push(node);
            }
        }
    }
}

/// Points an operation, and those of a loop's body, at constants and functions that stand further back.
fn move_tables(op: &mut Op, constants: u32, functions: u32) {
    match op {
        Op::Constant(constant) => *constant = ConstantId(constant.0 + constants),
        Op::Apply { function, .. } => *function = FunctionId(function.0 + functions),
        Op::Loop(body) => body.nodes.iter_mut().for_each(|node| move_tables(&mut node.op, constants, functions)),
        _ => {}
    }
}

/// The id of a site's path, which is added where it is new.
fn site(graph: &mut Graph, path: &str) -> SiteId {
    let index = graph.sites.iter().position(|site| site == path).unwrap_or_else(|| {
        graph.sites.push(path.to_string());
        graph.sites.len() - 1
    });
    SiteId(index as u32)
}

/// A view of a model whose every trace begins with some edits. The model itself stays as it is.
///
/// It derefs to the model, and can be traced and edited again as one.
#[derive(Debug)]
pub struct Edited<'m, M> {
    model: &'m M,
    edits: Edits,
}

impl<'m, M> Edited<'m, M> {
    pub(crate) fn new(model: &'m M, edit: Edit) -> Self {
        Edited { model, edits: Edits { edits: vec![edit] } }
    }

    /// A view with these edits, read from a file perhaps.
    pub fn with(model: &'m M, edits: Edits) -> Self {
        Edited { model, edits }
    }

    /// Its edits.
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// Its edits, to add to them or take them away.
    pub fn edits_mut(&mut self) -> &mut Edits {
        &mut self.edits
    }

    /// Gives up the view for its edits.
    pub fn into_edits(self) -> Edits {
        self.edits
    }
}

impl<M> Deref for Edited<'_, M> {
    type Target = M;
    fn deref(&self) -> &M {
        self.model
    }
}

impl<M: Traceable> Traceable for Edited<'_, M> {
    type Kind = M::Kind;
    type Network = M::Network;
    fn table(&self) -> &Arc<SiteTable> {
        self.model.table()
    }
    fn run(&self, graph: Graph, observer: Observer<'_>) -> Result<Vec<Result<Saved>>> {
        self.model.run(self.edits.apply(graph, &self.limits())?, observer)
    }
    fn scan(&self, graph: Graph) -> Result<Vec<Facts>> {
        self.model.scan(self.edits.apply(graph, &self.limits())?)
    }
    fn limits(&self) -> Limits {
        self.model.limits()
    }
    fn fingerprint(&self) -> Result<Fingerprint> {
        self.edits.fingerprint(self.model.fingerprint()?)
    }
}
