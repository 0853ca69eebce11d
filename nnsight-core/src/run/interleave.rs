//! Runs the nodes of a graph while a forward pass comes by their sites.

use std::collections::HashMap;

use candle_core::Tensor;

use super::evaluate::{Datum, Precision, evaluate, extents, unsqueeze};
use super::stages::Stages;
use crate::graph::{Facts, Graph, InvokeId, NodeId, Op, Region, Span};
use crate::kernels::{self, Extent};
use crate::module::{Cx, Hook, SiteTable};
use crate::plan::Schedule;
use crate::run::TokenBatch;
use crate::types::KindTag;
use crate::{Error, Result};

/// Where an invoke stands in the batch of the pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// Its rows.
    pub rows: Span,
    /// Its positions, without the padding that longer prompts of other invokes bring about.
    pub positions: Span,
}

/// The values of a run.
pub(super) struct Interleaver<'a, M> {
    pub model: &'a M,
    pub graph: &'a Graph,
    pub table: &'a SiteTable,
    pub precision: Precision<'a>,
    values: Vec<Option<Datum>>,
    uses: Vec<u32>,
    constants: Vec<Option<Tensor>>,
    layout: HashMap<InvokeId, Rows>,
    /// From which site on the pass holds one position only.
    one_position: Option<usize>,
    pending: Vec<(usize, NodeId)>,
    next: usize,
}

impl<'a, M: Stages> Interleaver<'a, M> {
    pub fn new(model: &'a M, graph: &'a Graph, table: &'a SiteTable, schedule: &Schedule, precision: Precision<'a>) -> Self {
        Interleaver {
            model,
            graph,
            table,
            precision,
            values: vec![None; graph.nodes.len()],
            uses: schedule.uses.clone(),
            constants: vec![None; graph.constants.len()],
            layout: HashMap::new(),
            one_position: None,
            pending: Vec::new(),
            next: 0,
        }
    }

    /// Prepares for a pass.
    pub fn start_pass(&mut self, layout: HashMap<InvokeId, Rows>, at_sites: Vec<(usize, NodeId)>, one_position: Option<usize>) {
        self.layout = layout;
        self.one_position = one_position;
        self.pending = at_sites;
        self.next = 0;
    }

    /// Whether the pass has nothing more to do.
    pub fn is_done(&self) -> bool {
        self.next == self.pending.len()
    }

    /// Fails where the pass ended before everything was done.
    pub fn finish_pass(&self) -> Result<()> {
        match self.pending.get(self.next) {
            None => Ok(()),
            Some(&(site, node)) => Err(Error::NotPassed { site: self.table.sites()[site].path.clone(), source_line: self.graph.source(node) }),
        }
    }

    /// The values to give back.
    pub fn results(mut self) -> Result<Vec<Tensor>> {
        let graph = self.graph;
        let results = graph.saves.iter().map(|&save| {
            let datum = self.take(save).ok_or_else(|| Error::OutsideBranch { source_line: graph.source(save) })?;
            Ok(self.precision.tensor(&datum)?.contiguous()?)
        });
        results.collect()
    }

    /// Runs a node that needs no site.
    pub fn run(&mut self, id: NodeId) -> Result<()> {
        if !self.is_active(id)? {
            return Ok(());
        }
        let graph = self.graph;
        let node = graph.node(id);
        let datum = match &node.op {
            Op::Choose => {
                let chosen = if self.truth(node.args[0])? { node.args[1] } else { node.args[2] };
                self.datum(chosen, id)?.clone()
            }
            Op::Constant(constant) => Datum::Tensor(self.constant(constant.index()).map_err(|error| self.compute_error(id, &error))?),
            Op::Call { module } => {
                let input = self.precision.tensor(self.datum(node.args[0], id)?)?.contiguous()?;
                let suggestion = String::new();
                let found =
                    self.model.find(module).ok_or_else(|| Error::NoModule { path: module.clone(), suggestion, source_line: graph.source(id) })?;
                let batch = TokenBatch::new(&[], self.precision.device)?;
                Datum::Tensor(found.forward(&input, &mut Cx::untouched(&batch))?)
            }
            op => {
                let args = node.args.iter().map(|&arg| self.datum(arg, id)).collect::<Result<Vec<_>>>()?;
                let datum = evaluate(op, &args, self.precision).map_err(|error| self.compute_error(id, &error))?;
                if let Op::Log { label } = op {
                    let name = if label.is_empty() { node.args[0].to_string() } else { label.clone() };
                    println!("{}: {name} = {}", graph.source(id), self.precision.tensor(&datum)?);
                }
                datum
            }
        };
        self.keep(id, datum);
        Ok(())
    }

    fn compute_error(&self, id: NodeId, error: &candle_core::Error) -> Error {
        Error::Compute { op: self.graph.node(id).op.name(), problem: error.to_string(), source_line: self.graph.source(id) }
    }

    /// Whether the branch that a node stands in is the one that is run. Where it is not, the node's arguments are let go.
    fn is_active(&mut self, id: NodeId) -> Result<bool> {
        let graph = self.graph;
        for guard in &graph.node(id).guards {
            // The condition of an inner branch has no value where the outer one is not run.
            let met = self.values[guard.condition.index()].is_some() && self.truth(guard.condition)? == guard.when;
            if !met {
                self.release(id);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn truth(&self, condition: NodeId) -> Result<bool> {
        match self.datum(condition, condition)? {
            Datum::Number(number) => Ok(*number != 0.0),
            Datum::Tensor(tensor) => Ok(tensor.flatten_all()?.get(0)?.to_scalar::<u8>()? != 0),
        }
    }

    fn datum(&self, id: NodeId, user: NodeId) -> Result<&Datum> {
        self.values[id.index()].as_ref().ok_or_else(|| Error::OutsideBranch { source_line: self.graph.source(user) })
    }

    /// Keeps a value for those that use it, and lets its arguments go.
    fn keep(&mut self, id: NodeId, datum: Datum) {
        self.release(id);
        if self.uses[id.index()] > 0 {
            self.values[id.index()] = Some(datum);
        }
    }

    fn release(&mut self, id: NodeId) {
        let graph = self.graph;
        let node = graph.node(id);
        for &arg in node.args.iter().chain(node.guards.iter().map(|guard| &guard.condition)) {
            let uses = &mut self.uses[arg.index()];
            *uses -= 1;
            if *uses == 0 {
                self.values[arg.index()] = None;
            }
        }
    }

    fn take(&mut self, id: NodeId) -> Option<Datum> {
        let uses = &mut self.uses[id.index()];
        *uses -= 1;
        if *uses == 0 { self.values[id.index()].take() } else { self.values[id.index()].clone() }
    }

    fn constant(&mut self, index: usize) -> candle_core::Result<Tensor> {
        if let Some(tensor) = &self.constants[index] {
            return Ok(tensor.clone());
        }
        let tensor = self.graph.constants[index].tensor.to_device(self.precision.device)?;
        let tensor = match crate::types::kind_of(tensor.dtype()) {
            KindTag::Float => tensor.to_dtype(self.precision.dtype)?,
            KindTag::Int => tensor.to_dtype(candle_core::DType::I64)?,
            KindTag::Bool => tensor,
        };
        self.constants[index] = Some(tensor.clone());
        Ok(tensor)
    }

    /// The rows and positions of an invoke in the value that a site holds.
    fn extents_of(&self, invoke: InvokeId, site: usize) -> Vec<Extent> {
        let facts: &Facts = &self.table.sites()[site].facts;
        let Rows { rows, mut positions } = self.layout[&invoke];
        if self.one_position.is_some_and(|head| site >= head) {
            positions = Span { start: 0, len: 1 };
        }
        let extent = |(axis, name): (usize, &str)| match name {
            "Batch" => Some(Extent { axis, span: rows }),
            "Seq" | "Query" | "Key" => Some(Extent { axis, span: positions }),
            _ => None,
        };
        facts.axes.iter().map(|axis| axis.name.as_ref()).enumerate().filter_map(extent).collect()
    }

    fn read(&self, invoke: InvokeId, site: usize, value: &Tensor) -> candle_core::Result<Tensor> {
        let part = kernels::part(value, &self.extents_of(invoke, site))?;
        match self.table.sites()[site].facts.kind {
            KindTag::Int => part.to_dtype(candle_core::DType::I64),
            KindTag::Float | KindTag::Bool => Ok(part),
        }
    }

    fn write(&self, invoke: InvokeId, site: usize, whole: &Tensor, region: &Region, value: &Datum) -> candle_core::Result<Tensor> {
        let mut all = self.extents_of(invoke, site);
        let own = kernels::part(whole, &all)?;
        all.extend(extents(region, own.dims())?);
        let value = match value {
            Datum::Tensor(tensor) => tensor.clone(),
            Datum::Number(number) => Tensor::new(*number, whole.device())?.to_dtype(whole.dtype())?,
        };
        kernels::patch(whole, &all, &unsqueeze(value, region, whole.rank())?)
    }
}

impl<M: Stages> Hook for Interleaver<'_, M> {
    fn visit(&mut self, site: usize, mut value: Tensor) -> Result<Tensor> {
        while let Some(&(at, id)) = self.pending.get(self.next) {
            if at < site {
                return Err(Error::OutOfOrder { site: self.table.sites()[site].path.clone() });
            }
            if at > site {
                break;
            }
            self.next += 1;
            let graph = self.graph;
            match &graph.node(id).op {
                Op::Get { invoke, .. } => {
                    if self.is_active(id)? {
                        let read = self.read(*invoke, site, &value).map_err(|error| self.compute_error(id, &error))?;
                        self.keep(id, Datum::Tensor(read));
                    }
                }
                Op::Set { invoke, region, .. } => {
                    if self.is_active(id)? {
                        let new = self.datum(graph.node(id).args[0], id)?;
                        value = self.write(*invoke, site, &value, region, new).map_err(|error| self.compute_error(id, &error))?;
                        self.release(id);
                    }
                }
                _ => self.run(id)?,
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Axis, Binary, Invoke, Node, Prompt, SiteId, Source, SourceId};
    use crate::module::{Forward, From, Registrar};
    use candle_core::{DType, Device};

    /// A model that shows one value at three sites.
    struct Three;

    impl Stages for Three {
        fn device(&self) -> &Device {
            &Device::Cpu
        }
        fn dtype(&self) -> DType {
            DType::F32
        }
        fn count(&self) -> usize {
            1
        }
        fn stage(&self, _index: usize, state: Tensor, _cx: &mut Cx) -> Result<Tensor> {
            Ok(state)
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
            type Sites<'t> = ();
            const COUNT: Option<usize> = Some(3);
            fn describe(registrar: &mut Registrar, path: &str, pointwise: Option<(Axis, Axis)>) {
                registrar.begin("Root", path, pointwise);
                for name in ["a", "b", "c"] {
                    registrar.site(name, KindTag::Float, vec![Axis::new("Batch", None), Axis::new("Seq", None)], From::All);
                }
                registrar.end();
            }
            fn sites<'t>(_cursor: &mut crate::module::Cursor<'t>) {}
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
        let get = |site| Op::Get { invoke: InvokeId(0), site: SiteId(site) };
        let mut nodes = vec![node(get(0), vec![])];
        nodes.extend((0..100).map(|last| node(Op::Binary(Binary::Add), vec![last, 0])));
        nodes.push(node(get(1), vec![]));
        nodes.push(node(Op::Binary(Binary::Add), vec![100, 101]));
        Graph {
            signature: "Three".into(),
            invokes: vec![Invoke { prompts: vec![Prompt::Tokens(vec![1, 2])] }],
            sites: vec!["a".into(), "c".into()],
            nodes,
            saves: vec![NodeId(102)],
            sources: vec![Source::default()],
            constants: vec![],
        }
    }

    #[test]
    fn a_value_is_let_go_after_its_last_use() {
        let (graph, table) = (graph(), table());
        let schedule = Schedule::new(&graph, &table, None, &[Some(2)]).unwrap();
        let precision = Precision { device: &Device::Cpu, dtype: DType::F32 };
        let mut interleaver = Interleaver::new(&Three, &graph, &table, &schedule, precision);
        let whole = |start, len| Span { start, len };
        let layout = HashMap::from([(InvokeId(0), Rows { rows: whole(0, 1), positions: whole(0, 2) })]);
        interleaver.start_pass(layout, schedule.waves[0].at_sites.clone(), None);
        let value = Tensor::new(&[[1f32, 2.0]], &Device::Cpu).unwrap();
        let alive = |interleaver: &Interleaver<'_, Three>| interleaver.values.iter().flatten().count();
        interleaver.visit(0, value.clone()).unwrap();
        assert_eq!(alive(&interleaver), 1, "the sum alone waits for `c`");
        assert!(!interleaver.is_done() && interleaver.finish_pass().is_err());
        interleaver.visit(2, value).unwrap();
        assert_eq!(alive(&interleaver), 1, "and then what is saved");
        assert_eq!(interleaver.results().unwrap()[0].to_vec2::<f32>().unwrap(), [[102.0, 204.0]]);
    }

    #[test]
    fn sites_out_of_order_are_noticed() {
        let (graph, table) = (graph(), table());
        let schedule = Schedule::new(&graph, &table, None, &[Some(2)]).unwrap();
        let precision = Precision { device: &Device::Cpu, dtype: DType::F32 };
        let mut interleaver = Interleaver::new(&Three, &graph, &table, &schedule, precision);
        interleaver.start_pass(HashMap::new(), schedule.waves[0].at_sites.clone(), None);
        let error = interleaver.visit(2, Tensor::new(1f32, &Device::Cpu).unwrap()).unwrap_err();
        assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
    }
}
