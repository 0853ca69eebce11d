//! Graphs that grow node by node, each fitting those before it.

use nnsight::candle_core::{Device, Tensor as Candle};
use nnsight::graph::{
    At, Binary, Body, Compare, Constant, ConstantId, Facts, Guard, Invoke, InvokeId, Logic, Node, NodeId, Op, Reduce, Region, SiteId, Source,
    SourceId, Step, Unary, Unused,
};
use nnsight::prelude::{Generation, Graph, Prompt};
use nnsight::trace::Settings as _;
use nnsight::types::KindTag;

use super::check::Subject;
use super::numbers::Numbers;

/// A graph of some invokes and at most twenty nodes, all of whose values are saved.
pub fn grow(numbers: &mut Numbers, subjects: &[Subject]) -> Option<(usize, Graph)> {
    let subject = numbers.below(subjects.len());
    let mut growing = Growing { subject: &subjects[subject], graph: begin(numbers), facts: Vec::new(), guards: Vec::new() };
    let wanted = 3 + numbers.below(14);
    for _ in 0..2 * wanted {
        if growing.graph.nodes.len() >= wanted {
            break;
        }
        growing.step(numbers);
    }
    (!growing.graph.nodes.is_empty()).then_some((subject, growing.graph))
}

/// Invokes on a few prompts, some of them equal.
fn begin(numbers: &mut Numbers) -> Graph {
    let prompts = (0..3).map(|_| (0..1 + numbers.below(6)).map(|_| numbers.below(64) as u32).collect::<Vec<_>>()).collect::<Vec<_>>();
    let mut invokes = Vec::new();
    for _ in 0..1 + numbers.below(4) {
        let rows = if numbers.once_in(4) { 2 } else { 1 };
        let rollout = numbers.once_in(6).then(|| Generation::default().max_new_tokens(1 + numbers.below(3)).rollout());
        let one = numbers.pick(&prompts).cloned().unwrap_or_default();
        let inputs = (0..rows).map(|_| Prompt::Tokens(if numbers.once_in(3) { prompts[0].clone() } else { one.clone() }).into()).collect();
        invokes.push(Invoke { inputs, all_inputs: false, rollout, source: None });
    }
    if numbers.once_in(8) {
        invokes.push(Invoke { all_inputs: true, rollout: invokes[0].rollout.clone(), ..Invoke::default() });
    }
    let constant =
        |values: Vec<f32>| Constant { names: vec!["Hidden".into()], tensor: Candle::new(values, &Device::Cpu).expect("a list has one axis") };
    Graph {
        signature: "Dynamic".into(),
        invokes,
        constants: vec![constant((0..32).map(|index| index as f32 / 16.0 - 1.0).collect())],
        sources: vec![Source { file: "fuzz.rs".into(), line: 1, column: 1 }],
        ..Graph::default()
    }
}

struct Growing<'a> {
    subject: &'a Subject,
    graph: Graph,
    /// Of each node, as far as it has a value.
    facts: Vec<Option<Facts>>,
    /// The conditions of the branch that is open.
    guards: Vec<Guard>,
}

impl Growing<'_> {
    /// Adds a node, if the graph is one with it.
    fn step(&mut self, numbers: &mut Numbers) {
        let Some((op, args)) = self.choose(numbers) else { return };
        let before = (self.graph.nodes.len(), self.graph.sites.len());
        let source = SourceId(0);
        self.graph.nodes.push(Node { op, args, guards: self.guards.clone(), source });
        let id = NodeId(before.0 as u32);
        let has_value = !matches!(self.graph.node(id).op, Op::Set { .. } | Op::Skip { .. } | Op::Stop { .. } | Op::SetGrad | Op::Loop(_));
        let is_saved = has_value && self.guards.is_empty();
        if is_saved {
            self.graph.saves.push(id);
        }
        match self.subject.scan(&self.graph) {
            Some(found) => self.facts.push(if is_saved { found.last().cloned() } else { None }),
            None => {
                self.graph.nodes.truncate(before.0);
                self.graph.sites.truncate(before.1);
                if is_saved {
                    self.graph.saves.pop();
                }
                return;
            }
        }
        if let Op::Loop(body) = &self.graph.nodes[before.0].op {
            let (carried, facts) = (body.loop_carried, self.facts[self.graph.nodes[before.0].args[0].index()].clone());
            for index in 0..carried {
                self.graph.nodes.push(Node { op: Op::Item { index }, args: vec![id], guards: vec![], source });
                self.graph.saves.push(NodeId(self.graph.nodes.len() as u32 - 1));
                self.facts.push(facts.clone().filter(|_| index == 0));
            }
        }
    }

    fn values(&self, fits: impl Fn(&Facts) -> bool) -> Vec<NodeId> {
        let known = self.facts.iter().enumerate().filter(|(_, facts)| facts.as_ref().is_some_and(&fits));
        known.map(|(id, _)| NodeId(id as u32)).collect()
    }

    fn at(&self, numbers: &mut Numbers) -> At {
        let invoke = numbers.below(self.graph.invokes.len());
        let steps = self.graph.invokes[invoke].steps();
        At { step: if numbers.once_in(3) { numbers.below(steps) as u32 } else { 0 }, ..At::first(InvokeId(invoke as u32)) }
    }

    fn site(&mut self, numbers: &mut Numbers, fits: impl Fn(&str) -> bool) -> Option<SiteId> {
        let sites = self.subject.sites.iter().map(|(path, ..)| path).filter(|path| fits(path)).collect::<Vec<_>>();
        let path = (*numbers.pick(&sites)?).clone();
        let known = self.graph.sites.iter().position(|site| *site == path).unwrap_or_else(|| {
            self.graph.sites.push(path);
            self.graph.sites.len() - 1
        });
        Some(SiteId(known as u32))
    }

    fn choose(&mut self, numbers: &mut Numbers) -> Option<(Op, Vec<NodeId>)> {
        let any = self.values(|_| true);
        let Some(&a) = numbers.pick(&any) else { return self.read(numbers) };
        let facts = self.facts[a.index()].clone()?;
        let rank = facts.axes.len();
        let axis = numbers.below(rank.max(1));
        let alike = self.values(|other| other.axes.len() == rank && other.kind == facts.kind);
        let b = *numbers.pick(&alike)?;
        let truths = self.values(|other| other.kind == KindTag::Bool);
        let indices = self.values(|other| other.kind == KindTag::Int);
        let region = self.region(numbers, &facts);
        Some(match numbers.below(34) {
            0..=4 => return self.read(numbers),
            5..=8 => return self.write(numbers, a),
            9 => (Op::Scalar(numbers.one(&[0.0, 0.5, 1.0, -2.0])), vec![]),
            10 => (Op::Constant(ConstantId(0)), vec![]),
            11 | 12 => {
                let unary =
                    [Unary::Neg, Unary::Sqr, Unary::Abs, Unary::Tanh, Unary::Sigmoid, Unary::Gelu, Unary::Silu, Unary::Relu, Unary::Clamp(-1.0, 1.0)];
                (Op::Unary(numbers.one(&unary)), vec![a])
            }
            13..=15 => {
                let binary = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Maximum, Binary::Minimum];
                let other = if numbers.once_in(2) { b } else { *numbers.pick(&any)? };
                (Op::Binary(numbers.one(&binary)), vec![a, other])
            }
            16 => (Op::Compare(numbers.one(&[Compare::Gt, Compare::Le, Compare::Ne])), vec![a, b]),
            17 => match numbers.pick(&truths) {
                Some(&truth) => (Op::Where, vec![truth, a, b]),
                None => (Op::Compare(Compare::Lt), vec![a, b]),
            },
            18 => match numbers.pick(&truths) {
                Some(&truth) => (Op::Logic(Logic::Not), vec![truth]),
                None => return None,
            },
            19 => {
                let reduce = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::Norm, Reduce::Var, Reduce::ArgMax];
                (Op::Reduce { reduce: numbers.one(&reduce), axis: (!numbers.once_in(3)).then_some(axis), keep: numbers.once_in(2) }, vec![a])
            }
            20 => (Op::Softmax { axis, log: numbers.once_in(2) }, vec![a]),
            21 => (Op::CumSum { axis }, vec![a]),
            22 => (Op::MatMul, vec![a, b]),
            23 if rank > 0 => {
                let mut order = (0..rank).collect::<Vec<_>>();
                order.swap(axis, numbers.below(rank));
                (Op::Permute { names: order.iter().map(|&axis| facts.axes[axis].name.to_string()).collect(), order }, vec![a])
            }
            24 => (Op::Slice(region), vec![a]),
            25 => (Op::Patch(region), vec![a, *numbers.pick(&any)?]),
            26 => (Op::Cat { axis }, vec![a, b]),
            27 => (Op::Stack { name: "Stacked".into() }, vec![a, b]),
            28 => (Op::TopK { k: 1 + numbers.below(3), indices: numbers.once_in(2) }, vec![a]),
            29 => match numbers.pick(&indices) {
                Some(&index) => {
                    let op = [Op::Pick { axis }, Op::Gather { axis }, Op::IndexSelect { axis }, Op::OneHot { name: "One".into(), size: 64 }];
                    let op = numbers.pick(&op)?.clone();
                    let args = if matches!(op, Op::OneHot { .. }) { vec![index] } else { vec![a, index] };
                    (op, args)
                }
                None => (Op::Reduce { reduce: Reduce::ArgMin, axis: Some(axis), keep: false }, vec![a]),
            },
            30 | 31 => (Op::Call { module: numbers.pick(&self.subject.modules)?.clone() }, vec![a]),
            32 => return self.gradient_or_loop(numbers, a),
            _ => return self.branch(numbers, &truths),
        })
    }

    fn read(&mut self, numbers: &mut Numbers) -> Option<(Op, Vec<NodeId>)> {
        let at = self.at(numbers);
        if self.graph.invokes[at.invoke.index()].rollout.is_some() && numbers.once_in(3) {
            return Some((Op::Output { invoke: at.invoke }, vec![]));
        }
        let streams = numbers.once_in(2);
        let site = self.site(numbers, |path| !streams || path.ends_with("output") || path.ends_with("input"))?;
        Some((Op::Get { at, site }, vec![]))
    }

    fn write(&mut self, numbers: &mut Numbers, value: NodeId) -> Option<(Op, Vec<NodeId>)> {
        let mut at = self.at(numbers);
        // Often what was read goes back, or to the same place of another run.
        let from = match self.graph.node(value).op {
            Op::Get { at: own, site } if !numbers.once_in(3) => {
                if numbers.once_in(2) {
                    at = own;
                }
                Some(site)
            }
            _ => None,
        };
        let site = match from {
            Some(site) => site,
            None => self.site(numbers, |_| true)?,
        };
        let unused = numbers.one(&[Unused::Keep, Unused::Keep, Unused::Drop, Unused::Sweep, Unused::Refuse]);
        if numbers.once_in(8) {
            return Some((Op::Skip { at, site, unused }, vec![value]));
        }
        if numbers.once_in(24) {
            return Some((Op::Stop { at, site }, vec![]));
        }
        let (_, kind, axes) = self.subject.sites.iter().find(|(path, ..)| path == self.graph.site(site))?;
        let facts = Facts { kind: *kind, axes: axes.clone() };
        let region = if numbers.once_in(2) { self.region(numbers, &facts) } else { Region::default() };
        Some((Op::Set { at, site, region, unused }, vec![value]))
    }

    fn region(&self, numbers: &mut Numbers, facts: &Facts) -> Region {
        let mut region = Region::default();
        for (axis, facts) in facts.axes.iter().enumerate() {
            if numbers.once_in(2) {
                continue;
            }
            let size = facts.size.unwrap_or(2) as i64;
            let (start, single) = (numbers.below(size.max(1) as usize) as i64, numbers.once_in(2));
            let (start, end) = match numbers.once_in(2) {
                true => (start - size, None),
                false => (start, Some(start + 1)),
            };
            region.0.push(Step { axis: axis as u8, start, end, single });
        }
        region
    }

    fn gradient_or_loop(&mut self, numbers: &mut Numbers, a: NodeId) -> Option<(Op, Vec<NodeId>)> {
        if numbers.once_in(2) {
            let losses = self.values(|facts| facts.kind == KindTag::Float && facts.axes.is_empty());
            return Some((Op::Grad, vec![a, *numbers.pick(&losses)?]));
        }
        // Three rounds of a sum that begins with the value and adds half of it.
        let node = |op, args: Vec<u32>| Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) };
        let nodes = vec![
            node(Op::Scalar(0.5), vec![]),
            node(Op::Binary(Binary::Mul), vec![0, 2]),
            node(Op::Scalar(1.0), vec![]),
            node(Op::Binary(Binary::Sub), vec![1, 4]),
            node(Op::Compare(Compare::Gt), vec![1, 2]),
        ];
        let rounds = self.values(|facts| facts.kind == KindTag::Float && facts.axes.is_empty());
        let body =
            Body { loop_carried: 2, over: None, captured: 0, nodes, condition: Some(NodeId(6)), yields: vec![NodeId(3), NodeId(5)], limit: 100 };
        Some((Op::Loop(Box::new(body)), vec![a, *numbers.pick(&rounds)?]))
    }

    /// Opens a branch, or closes the one that is open.
    fn branch(&mut self, numbers: &mut Numbers, truths: &[NodeId]) -> Option<(Op, Vec<NodeId>)> {
        match (self.guards.is_empty(), numbers.pick(truths)) {
            (true, Some(&condition)) => self.guards.push(Guard { condition, when: numbers.once_in(2) }),
            _ => self.guards.clear(),
        }
        None
    }
}
