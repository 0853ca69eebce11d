//! Runs the nodes of a graph while forward passes reach their sites.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use nnsight_kernels::{self as kernels, MaybeOwned};

use super::budget::Meter;
use super::cutoff::Cutoff;
use super::depth::Depths;
use super::evaluate::{Datum, Precision};
use super::gradient::Gradients;
use super::inputs::{RolledOut, Write};
use super::stages::Stages;
use super::values::{Cause, Unavailable};
use crate::batch::Window;
use crate::graph::{Graph, Inferred, InvokeId, NodeId, Op, Region, Source, Span, Unreached};
use crate::module::{Hook, Skipped};
use crate::observer::Note;
use crate::plan::{Plan, SiteVisit};
use crate::sites::SiteTable;
use crate::{Error, Result};

/// Where an invoke stands in the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// Its rows.
    pub rows: Span,
    /// The positions of its prompts, without the padding that longer prompts of other invokes bring about.
    pub positions: Span,
    /// How many positions of its prompt come before those, and are another run's.
    pub before: usize,
}

/// A pass of the model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pass {
    /// Its step; 0 is the prompts' own pass.
    pub step: u32,
    /// The rows and positions of what the model computes in it.
    pub batch: (usize, usize),
    /// From which site on it holds some positions only, and which.
    pub window: Option<(usize, Window)>,
}

/// The values of a run.
pub(super) struct Interleaver<'a> {
    pub model: &'a dyn Stages,
    pub graph: &'a Graph,
    pub table: &'a SiteTable,
    pub precision: Precision<'a>,
    pub(super) values: Vec<Option<Datum>>,
    pub(super) uses: Vec<u32>,
    pub(super) constants: Vec<Option<Tensor>>,
    pub(super) with_gradient: &'a [bool],
    pub(super) fused: &'a [bool],
    /// What is known of every value.
    pub(super) inferred: &'a Inferred,
    /// What loops take as they go round.
    pub(super) meter: Meter,
    stops: bool,
    pub(super) gradients: Gradients,
    pub(super) depths: Depths,
    /// Why a value never came into being, for those that depend on something that was not reached.
    pub(super) unavailable: HashMap<NodeId, Unavailable>,
    pub(super) layout: HashMap<InvokeId, Rows>,
    pub(super) pass: Pass,
    /// When the last visit to a site was.
    last: Option<(u32, usize)>,
    pending: Vec<SiteVisit>,
    next: usize,
    /// The invokes whose run was ended, and where.
    pub(super) stopped: HashMap<InvokeId, NodeId>,
    /// The modules that are being skipped, some of them for part of the rows only, so that their inside is run all the same.
    pub(super) skipping: Vec<Skipping>,
    /// The runs that may stay another's.
    pub(super) cutoff: Cutoff,
    /// Readings whose last positions are not there: along which axis, and how many.
    pub(super) cut: HashMap<NodeId, (usize, usize)>,
    /// What inputs put in place of what the model computes in the first pass.
    writes: Vec<Write>,
    /// What came out of the rollout of each invoke.
    pub(super) outputs: HashMap<InvokeId, RolledOut>,
    /// Who is told of what the graph has to say.
    pub(super) on_note: Option<&'a mut (dyn FnMut(Note) + Send)>,
}

/// A module that is skipped for some rows.
pub(super) struct Skipping {
    /// The site of its output.
    output: usize,
    /// Whose rows skip it.
    invoke: InvokeId,
    node: NodeId,
    /// What the rows go on with.
    value: Datum,
}

impl<'a> Interleaver<'a> {
    pub fn new(
        model: &'a dyn Stages,
        graph: &'a Graph,
        table: &'a SiteTable,
        (plan, inferred, meter): (&'a Plan, &'a Inferred, Meter),
        precision: Precision<'a>,
    ) -> Self {
        Interleaver {
            model,
            graph,
            table,
            precision,
            values: vec![None; graph.nodes.len()],
            uses: plan.uses.clone(),
            constants: vec![None; graph.constants.len()],
            with_gradient: &plan.with_gradient,
            fused: &plan.fused,
            inferred,
            meter,
            stops: plan.stops,
            gradients: Gradients::default(),
            depths: Depths::default(),
            unavailable: HashMap::new(),
            layout: HashMap::new(),
            pass: Pass::default(),
            last: None,
            pending: Vec::new(),
            next: 0,
            stopped: HashMap::new(),
            skipping: Vec::new(),
            cut: HashMap::new(),
            writes: Vec::new(),
            cutoff: Cutoff::default(),
            outputs: HashMap::new(),
            on_note: None,
        }
    }

    /// Tells of what the graph has to say.
    pub(super) fn note(&mut self, note: Note) {
        match &mut self.on_note {
            Some(told) => told(note),
            None => note.print(),
        }
    }

    /// Prepares for a batch of inputs, which put `writes` in place of what the model computes.
    pub fn start(&mut self, layout: HashMap<InvokeId, Rows>, visits: Vec<SiteVisit>, writes: Vec<Write>) {
        self.writes = writes;
        self.layout = layout;
        self.last = None;
        self.pending = visits;
        self.next = 0;
    }

    /// The sites at which inputs put something in place of what the model computes.
    pub fn writes(&self) -> impl Iterator<Item = usize> + '_ {
        self.writes.iter().map(|write| write.site)
    }

    /// Has an invoke stand in the batch from here on.
    pub fn place(&mut self, invoke: InvokeId, rows: Rows) {
        self.layout.insert(invoke, rows);
    }

    /// Prepares for a pass.
    pub fn start_pass(&mut self, pass: Pass) {
        self.depths.start_pass(pass.step);
        self.pass = pass;
    }

    /// Whether this pass has nothing more to do, and so ends.
    pub fn pass_is_done(&self) -> bool {
        let mut rest = self.pending[self.next..].iter().take_while(|visit| visit.step == self.pass.step);
        self.stops && rest.all(|visit| self.needs_no_pass(visit.node))
    }

    /// Whether nothing is left to do in later passes, so that none follows.
    pub fn pass_is_last(&self) -> bool {
        let later = self.pending.partition_point(|visit| visit.step <= self.pass.step);
        self.stops && self.pending[later..].iter().all(|visit| self.is_stopped(visit.node))
    }

    /// Whether an invoke's run was stopped.
    pub fn is_ended(&self, invoke: InvokeId) -> bool {
        self.stopped.contains_key(&invoke)
    }

    /// Ends a pass. Fails where the model did not reach everything.
    pub fn finish_pass(&mut self) -> Result<()> {
        while let Some(&SiteVisit { step, site, node }) = self.pending.get(self.next) {
            if step > self.pass.step {
                break;
            }
            if !self.needs_no_pass(node) {
                return Err(Error::NotPassed { site: self.table.sites()[site].path.clone(), source_line: self.graph.source(node) });
            }
            self.next += 1;
            self.act_outside(SiteVisit { step, site, node })?;
        }
        Ok(())
    }

    /// Whether a node can be run wherever the pass is: it touches nothing, or its run was stopped, or stays the base's.
    fn needs_no_pass(&self, id: NodeId) -> bool {
        self.touches(id).is_none_or(|(invoke, _)| self.stopped.contains_key(&invoke) || self.is_noop(invoke))
    }

    /// Runs such a node.
    fn act_outside(&mut self, SiteVisit { site, node, .. }: SiteVisit) -> Result<()> {
        match self.touches(node) {
            Some((invoke, _)) if self.is_noop(invoke) => self.read_from_base(site, invoke, node),
            _ => self.run(node),
        }
    }

    /// Does what a run's node does that stays the base's.
    fn read_from_base(&mut self, site: usize, invoke: InvokeId, id: NodeId) -> Result<()> {
        if !self.is_active(id)? {
            return Ok(());
        }
        match (&self.graph.node(id).op, self.read_base(id, invoke, site)?) {
            (Op::Get { .. }, Some(value)) => self.keep(id, Datum::Tensor(value)),
            (Op::Get { .. }, None) => return Err(Error::OutOfOrder { site: self.table.sites()[site].path.clone(), source_line: None }),
            // It writes what is there already.
            _ => self.release(id),
        }
        Ok(())
    }

    /// Ends the batch after `reached` steps: what was to happen later does not.
    pub fn finish(&mut self, reached: usize) -> Result<()> {
        let mut noted: Vec<Option<Source>> = Vec::new();
        while let Some(&SiteVisit { step, node, .. }) = self.pending.get(self.next) {
            self.next += 1;
            if self.is_stopped(node) || self.touches(node).is_none() {
                self.run(node)?;
                continue;
            }
            let source_line = self.graph.source(node);
            match (&self.graph.node(node).op, self.unreached(node)) {
                (Op::Get { .. }, Unreached::Refuse) | (_, Unreached::Drop) => {}
                (_, Unreached::Refuse) => return Err(Error::StepNotReached { step, reached, named: true, source_line }),
                (_, Unreached::Note) => {
                    if !noted.contains(&source_line) {
                        self.note(Note::NeverReached { step, reached, source_line: source_line.clone() });
                        noted.push(source_line);
                    }
                }
            }
            self.mark_unavailable(node, Unavailable { visit: node, cause: Cause::Ended(reached) });
        }
        Ok(())
    }

    /// The invoke and step whose pass a node touches, where it touches one.
    pub(super) fn touches(&self, id: NodeId) -> Option<(InvokeId, u32)> {
        match self.graph.node(id).op {
            Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } | Op::Stop { at, .. } => Some((at.invoke, at.step)),
            _ => None,
        }
    }

    pub(super) fn unreached(&self, id: NodeId) -> Unreached {
        match self.graph.node(id).op {
            Op::Get { at, .. } | Op::Set { at, .. } | Op::Skip { at, .. } | Op::Stop { at, .. } => at.unreached,
            _ => Unreached::Refuse,
        }
    }

    pub(super) fn is_stopped(&self, id: NodeId) -> bool {
        self.touches(id).is_some_and(|(invoke, _)| self.stopped.contains_key(&invoke))
    }

    /// Does what a node does at a site; returns what the model goes on with.
    fn act(&mut self, site: usize, id: NodeId, mut value: MaybeOwned) -> Result<MaybeOwned> {
        if self.touches(id).is_none() || self.unavailable_input(id).is_some() {
            self.run(id)?;
            return Ok(value);
        }
        if let Some((invoke, _)) = self.touches(id).filter(|(invoke, _)| self.is_noop(*invoke) && !self.layout.contains_key(invoke)) {
            self.read_from_base(site, invoke, id)?;
            return Ok(value);
        }
        if !self.is_active(id)? {
            return Ok(value);
        }
        let graph = self.graph;
        let failed = |this: &Self, error: candle_core::Error| this.compute_error(id, error);
        match &graph.node(id).op {
            Op::Get { at, .. } => {
                let mut held = value.into_tensor();
                if self.with_gradient[id.index()] {
                    let part = self.extents_of(at.invoke, site);
                    held = self.gradients.cut(id, &held, part).map_err(|error| failed(self, error))?;
                    self.held_is_cut();
                }
                let read = self.read(at.invoke, site, &held).map_err(|error| failed(self, error))?;
                value = MaybeOwned::shared(held);
                self.read_at_depth(&read);
                self.note_cut(id, site);
                self.keep(id, Datum::Tensor(read));
            }
            Op::Set { at, region, .. } => {
                let new = self.datum(graph.node(id).args[0], id)?.clone();
                value = self.write((at.invoke, site), value, region, &new).map_err(|error| failed(self, error))?;
                value = self.held_at_depth(value, &new).map_err(|error| failed(self, error))?;
                self.release(id);
            }
            Op::Skip { at, .. } => {
                let value = self.datum(graph.node(id).args[0], id)?.clone();
                // It is due at the module's input.
                let output = self.table.module_of(site).sites.end - 1;
                self.skipping.push(Skipping { output, invoke: at.invoke, node: id, value });
                self.release(id);
            }
            Op::Stop { at, .. } => {
                self.release(id);
                let ended = self.layout.keys().filter(|invoke| graph.share_rows(**invoke, at.invoke)).copied().collect::<Vec<_>>();
                for invoke in ended {
                    self.stopped.entry(invoke).or_insert(id);
                }
            }
            _ => self.run(id)?,
        }
        Ok(value)
    }
}

impl Hook for Interleaver<'_> {
    fn visit(&mut self, site: usize, value: Tensor) -> Result<Tensor> {
        // A module that a pass reaches twice would be edited once only.
        let now = (self.pass.step, self.table.rank(site));
        if self.last.replace(now).is_some_and(|last| last >= now) {
            return Err(Error::OutOfOrder { site: self.table.sites()[site].path.clone(), source_line: None });
        }
        let mut value = MaybeOwned::shared(value);
        if self.pass.step == 0 {
            for write in self.writes.iter().filter(|write| write.site == site) {
                value = kernels::patch_owned(value, &write.part, &write.value)?;
            }
        }
        while let Some(&visit) = self.pending.get(self.next) {
            let due = (visit.step, self.table.rank(visit.site));
            if due > now {
                break;
            }
            self.next += 1;
            if due == now {
                value = self.act(site, visit.node, value)?;
            } else if self.needs_no_pass(visit.node) {
                self.act_outside(visit)?;
            } else {
                return Err(Error::OutOfOrder { site: self.table.sites()[site].path.clone(), source_line: None });
            }
        }
        let value = value.into_tensor();
        self.check(site, &value)?;
        Ok(value)
    }

    fn dtype(&self) -> DType {
        self.precision.dtype
    }

    fn skipped(&self, output: usize) -> Skipped {
        let rows = self.skipping.iter().filter(|skipping| skipping.output == output).map(|skipping| self.layout[&skipping.invoke].rows.len);
        match rows.sum::<usize>() {
            0 => Skipped::No,
            rows if rows < self.pass.batch.0 => Skipped::Partly,
            _ => Skipped::Wholly,
        }
    }

    fn replacement(&mut self, site: usize, computed: Option<Tensor>) -> Result<Tensor> {
        let (here, rest) = std::mem::take(&mut self.skipping).into_iter().partition(|skipping| skipping.output == site);
        self.skipping = rest;
        let here: Vec<Skipping> = here;
        let mut output = MaybeOwned::shared(match (computed, here.first()) {
            (Some(computed), _) => computed,
            (None, skipping) => self.blank(site, skipping.and_then(|skipping| self.graph.source(skipping.node)))?,
        });
        for Skipping { invoke, node, value, .. } in here {
            output = self.write((invoke, site), output, &Region::default(), &value).map_err(|error| self.compute_error(node, error))?;
            output = self.held_at_depth(output, &value).map_err(|error| self.compute_error(node, error))?;
        }
        Ok(output.into_tensor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{At, Axis, Binary, Input, Invoke, KindTag, Node, SiteId, Source, SourceId};
    use crate::module::{Cx, Forward};
    use crate::plan::PlanContext;
    use crate::run::StagedModel;
    use crate::sites::{DependsOn, Registrar};
    use candle_core::Device;

    /// A model that shows one value at three sites.
    struct Three;

    impl StagedModel for Three {
        type State = Tensor;
        fn device(&self) -> &Device {
            &Device::Cpu
        }
        fn dtype(&self) -> DType {
            DType::F32
        }
        fn count(&self) -> usize {
            1
        }
        fn begin(&self, _cx: &mut Cx) -> Result<Tensor> {
            Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?)
        }
        fn stage(&self, _index: usize, state: Tensor, _cx: &mut Cx) -> Result<Tensor> {
            Ok(state)
        }
        fn output(&self, state: Tensor) -> Tensor {
            state
        }
        fn head(&self) -> Option<usize> {
            None
        }
        fn find(&self, _path: &str) -> Option<&dyn Forward> {
            None
        }
    }

    fn table() -> SiteTable {
        struct Root;
        impl crate::module::Instrument for Root {
            type Sites<'t, C: crate::types::Signature> = ();
            const COUNT: Option<usize> = Some(3);
            fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>) {
                registrar.begin("Root", path, pointwise);
                for name in ["a", "b", "c"] {
                    registrar.site(name, KindTag::Float, vec![Axis::new("Batch", None), Axis::new("Seq", None)], DependsOn::AllBefore);
                }
                registrar.end();
            }
            fn sites<'t, C: crate::types::Signature>(_cursor: &mut crate::module::Cursor<'t>) {}
            fn attach(&mut self, _next: &mut usize) {}
            fn place(&self) -> crate::module::Place {
                crate::module::Place::default()
            }
            fn find(&self, _path: &str) -> Option<&dyn Forward> {
                None
            }
        }
        Registrar::new("Three", 0, &[]).model::<Root>()
    }

    /// Reads `a`, adds it up a hundred times, and saves the sum at `c`.
    fn graph() -> Graph {
        let node = |op, args: Vec<u32>| Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) };
        let get = |site| Op::Get { at: At::first(InvokeId(0)), site: SiteId(site) };
        let mut nodes = vec![node(get(0), vec![])];
        nodes.extend((0..100).map(|last| node(Op::Binary(Binary::Add), vec![last, 0])));
        nodes.push(node(get(1), vec![]));
        nodes.push(node(Op::Binary(Binary::Add), vec![100, 101]));
        Graph {
            signature: "Three".into(),
            invokes: vec![Invoke { inputs: vec![Input::default()], ..Invoke::default() }],
            sites: vec!["a".into(), "c".into()],
            nodes,
            saves: vec![NodeId(102)],
            sources: vec![Source::default()],
            ..Graph::default()
        }
    }

    #[test]
    fn a_value_is_let_go_after_its_last_use() {
        let (graph, table) = (graph(), table());
        let plan = crate::plan::plan(&graph, &table, PlanContext { lengths: &[Some(2)], ..PlanContext::default() }).unwrap().plan;
        let precision = Precision { device: &Device::Cpu, dtype: DType::F32 };
        let surroundings = crate::run::Surroundings::new(&table, &[vec![Some(2)]], DType::F32);
        let inferred = crate::graph::infer(&graph, &surroundings, &crate::graph::Limits::default()).unwrap();
        let mut interleaver = Interleaver::new(&Three, &graph, &table, (&plan, &inferred, Meter::default()), precision);
        let whole = |start, len| Span { start, len };
        let layout = HashMap::from([(InvokeId(0), Rows { rows: whole(0, 1), positions: whole(0, 2), before: 0 })]);
        interleaver.start(layout, plan.batches[0].visits.clone(), Vec::new());
        let value = Tensor::new(&[[1f32, 2.0]], &Device::Cpu).unwrap();
        let alive = |interleaver: &Interleaver<'_>| interleaver.values.iter().flatten().count();
        interleaver.visit(0, value.clone()).unwrap();
        assert_eq!(alive(&interleaver), 1, "the sum alone waits for `c`");
        assert!(!interleaver.pass_is_done() && interleaver.finish_pass().is_err());
        interleaver.visit(2, value).unwrap();
        assert_eq!(alive(&interleaver), 1, "and then what is saved");
        assert_eq!(interleaver.results().unwrap().remove(0).unwrap().to_vec2::<f32>().unwrap(), [[102.0, 204.0]]);
    }

    #[test]
    fn sites_out_of_order_are_noticed() {
        let (graph, table) = (graph(), table());
        let plan = crate::plan::plan(&graph, &table, PlanContext { lengths: &[Some(2)], ..PlanContext::default() }).unwrap().plan;
        let precision = Precision { device: &Device::Cpu, dtype: DType::F32 };
        let surroundings = crate::run::Surroundings::new(&table, &[vec![Some(2)]], DType::F32);
        let inferred = crate::graph::infer(&graph, &surroundings, &crate::graph::Limits::default()).unwrap();
        let mut interleaver = Interleaver::new(&Three, &graph, &table, (&plan, &inferred, Meter::default()), precision);
        interleaver.start(HashMap::new(), plan.batches[0].visits.clone(), Vec::new());
        let error = interleaver.visit(2, Tensor::new(1f32, &Device::Cpu).unwrap()).unwrap_err();
        assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
    }
}
