//! The operations of values and their gradients, as graphs.

use nnsight::candle_core::Tensor as Candle;
use nnsight::graph::{Binary, Compare, Constant, ConstantId, Node, NodeId, Op, Reduce, Region, Source, SourceId, Step, Unary};
use nnsight::prelude::*;
use nnsight::trace::Traceable as _;

use super::data::{indices, normal, positive};
use super::{Errors, error};

/// A graph that is written down node by node.
#[derive(Default)]
struct Program {
    graph: Graph,
}

impl Program {
    fn new() -> Self {
        Program { graph: Graph { signature: "dynamic".into(), sources: vec![Source::default()], ..Graph::default() } }
    }

    fn push(&mut self, op: Op, args: &[NodeId]) -> NodeId {
        self.graph.nodes.push(Node { op, args: args.to_vec(), guards: Vec::new(), source: SourceId(0) });
        NodeId(self.graph.nodes.len() as u32 - 1)
    }

    fn constant(&mut self, tensor: Candle) -> NodeId {
        let names = ["Rows", "Columns"][2 - tensor.rank().min(2)..].iter().map(ToString::to_string).collect();
        self.graph.constants.push(Constant { names, tensor });
        self.push(Op::Constant(ConstantId(self.graph.constants.len() as u32 - 1)), &[])
    }

    fn list(&mut self, indices: Vec<i64>) -> NodeId {
        let count = indices.len();
        self.constant(Candle::from_vec(indices, count, &Device::Cpu).unwrap())
    }

    fn number(&mut self, number: f64) -> NodeId {
        self.push(Op::Scalar(number), &[])
    }

    fn with_number(&mut self, op: Binary, x: NodeId, number: f64) -> NodeId {
        let number = self.number(number);
        self.push(Op::Binary(op), &[x, number])
    }

    fn along(&mut self, reduce: Reduce, axis: usize, x: NodeId) -> NodeId {
        self.push(Op::Reduce { reduce, axis: Some(axis), keep: false }, &[x])
    }
}

type Write = fn(&mut Program, &[NodeId]) -> NodeId;

/// The cases with the names of the script.
fn cases() -> Vec<(&'static str, Vec<Candle>, Write)> {
    let (grid, wide, million) = (&[1200, 96][..], &[40, 30000][..], &[1000, 1000][..]);
    let x = |scale| normal(1, grid, scale, 0.0);
    let over_zero = |scale| positive(1, grid, scale);
    let (y, row) = (normal(2, grid, 1.0, 0.0), normal(2, &grid[1..], 1.0, 0.0));
    let pair = || vec![x(1.0), y.clone()];
    let shifted = || normal(1, million, 1.0, 0.1);
    macro_rules! one {
        ($op:expr) => {
            |p, a| p.push($op, a)
        };
    }
    macro_rules! reduced {
        ($op:ident, $axis:expr) => {
            |p, a| p.push(Op::Reduce { reduce: Reduce::$op, axis: $axis, keep: false }, a)
        };
    }
    vec![
        ("neg", vec![x(1.0)], one!(Op::Unary(Unary::Neg))),
        ("exp", vec![x(1.0)], one!(Op::Unary(Unary::Exp))),
        ("ln", vec![over_zero(4.0)], one!(Op::Unary(Unary::Ln))),
        ("sqrt", vec![over_zero(4.0)], one!(Op::Unary(Unary::Sqrt))),
        ("sqr", vec![x(1.0)], one!(Op::Unary(Unary::Sqr))),
        ("abs", vec![x(1.0)], one!(Op::Unary(Unary::Abs))),
        ("tanh", vec![x(1.0)], one!(Op::Unary(Unary::Tanh))),
        ("sigmoid", vec![x(4.0)], one!(Op::Unary(Unary::Sigmoid))),
        ("gelu", vec![x(2.0)], one!(Op::Unary(Unary::Gelu))),
        ("silu", vec![x(4.0)], one!(Op::Unary(Unary::Silu))),
        ("relu", vec![x(1.0)], one!(Op::Unary(Unary::Relu))),
        ("recip", vec![over_zero(1.0)], one!(Op::Unary(Unary::Recip))),
        ("powf", vec![over_zero(2.0)], one!(Op::Unary(Unary::Powf(1.5)))),
        ("clamp", vec![x(1.0)], one!(Op::Unary(Unary::Clamp(-0.7, 0.3)))),
        ("times a number", vec![x(1.0)], |p, a| p.with_number(Binary::Mul, a[0], 0.1)),
        ("plus a number", vec![x(1.0)], |p, a| p.with_number(Binary::Add, a[0], 0.3)),
        ("by a number", vec![x(1.0)], |p, a| p.with_number(Binary::Div, a[0], 3.0)),
        ("a number less", vec![x(1.0)], |p, a| {
            let number = p.number(1.1);
            p.push(Op::Binary(Binary::Sub), &[number, a[0]])
        }),
        ("add", pair(), one!(Op::Binary(Binary::Add))),
        ("sub", pair(), one!(Op::Binary(Binary::Sub))),
        ("mul", pair(), one!(Op::Binary(Binary::Mul))),
        ("div", vec![x(1.0), positive(2, grid, 1.0)], one!(Op::Binary(Binary::Div))),
        ("maximum", pair(), one!(Op::Binary(Binary::Maximum))),
        ("minimum", pair(), one!(Op::Binary(Binary::Minimum))),
        ("add a row", vec![x(1.0), row.clone()], one!(Op::Binary(Binary::Add))),
        ("mul a row", vec![x(1.0), row.clone()], one!(Op::Binary(Binary::Mul))),
        ("sum", vec![shifted()], reduced!(Sum, Some(1))),
        ("sum of rows", vec![shifted()], reduced!(Sum, Some(0))),
        ("sum of a million", vec![positive(1, million, 0.02)], reduced!(Sum, None)),
        ("mean", vec![shifted()], reduced!(Mean, Some(1))),
        ("mean of a million", vec![positive(1, million, 1.0)], reduced!(Mean, None)),
        ("var", vec![normal(1, million, 1.0, 0.0)], reduced!(Var, Some(1))),
        ("var of a million", vec![normal(1, million, 1.0, 3.0)], reduced!(Var, None)),
        ("norm", vec![normal(1, million, 1.0, 0.0)], reduced!(Norm, Some(1))),
        ("norm of a million", vec![normal(1, million, 1.0, 0.0)], reduced!(Norm, None)),
        ("max", vec![x(1.0)], reduced!(Max, Some(1))),
        ("min", vec![x(1.0)], reduced!(Min, Some(0))),
        ("softmax", vec![normal(1, wide, 3.0, 0.0)], one!(Op::Softmax { axis: 1, log: false })),
        ("softmax of rows", vec![x(3.0)], one!(Op::Softmax { axis: 0, log: false })),
        ("log_softmax", vec![normal(1, wide, 3.0, 0.0)], one!(Op::Softmax { axis: 1, log: true })),
        ("cross entropy", vec![normal(1, wide, 3.0, 0.0)], |p, a| {
            let (log, targets) = (p.push(Op::Softmax { axis: 1, log: true }, a), p.list(indices(3, 40, 30000)));
            let picked = p.push(Op::Pick { axis: 1 }, &[log, targets]);
            let mean = p.along(Reduce::Mean, 0, picked);
            p.push(Op::Unary(Unary::Neg), &[mean])
        }),
        ("cumsum", vec![normal(1, &[100, 1200], 1.0, 0.0)], one!(Op::CumSum { axis: 1 })),
        ("cumsum of rows", vec![x(1.0)], one!(Op::CumSum { axis: 0 })),
        ("matmul", vec![normal(1, &[200, 1200], 1.0, 0.0), normal(2, &[1200, 150], 1.0, 0.0)], one!(Op::MatMul)),
        ("matmul of a long axis", vec![normal(1, &[4, 50000], 1.0, 0.0), normal(2, &[50000, 5], 1.0, 0.0)], one!(Op::MatMul)),
        ("cosine", vec![normal(1, million, 1.0, 0.0), normal(2, million, 1.0, 0.2)], |p, a| {
            let product = p.push(Op::Binary(Binary::Mul), a);
            let (dot, x, y) = (p.along(Reduce::Sum, 1, product), p.along(Reduce::Norm, 1, a[0]), p.along(Reduce::Norm, 1, a[1]));
            let norms = p.push(Op::Binary(Binary::Mul), &[x, y]);
            p.push(Op::Binary(Binary::Div), &[dot, norms])
        }),
        ("where", vec![x(1.0), row.clone()], |p, a| {
            let zero = p.number(0.0);
            let positive = p.push(Op::Compare(Compare::Gt), &[a[0], zero]);
            let rows = p.push(Op::Full(0.0), &a[..1]);
            let row = p.push(Op::Binary(Binary::Add), &[rows, a[1]]);
            p.push(Op::Where, &[positive, a[0], row])
        }),
        ("patch", vec![x(1.0), row], |p, a| {
            let part = Step { axis: 0, start: 10, end: Some(90), single: false };
            let columns = Step { axis: 1, ..part };
            let row = p.push(Op::Slice(Region(vec![part])), &a[1..]);
            p.push(Op::Patch(Region(vec![columns])), &[a[0], row])
        }),
        ("scatter", pair(), |p, a| {
            let rows = p.push(Op::Slice(Region(vec![Step { axis: 0, start: 0, end: Some(50), single: false }])), &a[1..]);
            let places = p.list(indices(21, 50, 1200));
            p.push(Op::Scatter { axis: 0 }, &[a[0], places, rows])
        }),
        ("index_select", vec![normal(1, &[50, 96], 1.0, 0.0)], |p, a| {
            let places = p.list(indices(4, 1200, 50));
            p.push(Op::IndexSelect { axis: 0 }, &[a[0], places])
        }),
        ("pick", vec![normal(1, wide, 1.0, 0.0)], |p, a| {
            let places = p.list(indices(3, 40, 30000));
            p.push(Op::Pick { axis: 1 }, &[a[0], places])
        }),
        ("cat", pair(), one!(Op::Cat { axis: 0 })),
    ]
}

/// The value and the gradients of a case, on inputs that are rounded to `rounded`.
fn run(model: &Llama<Dynamic>, inputs: &[Candle], write: Write, rounded: DType) -> Vec<(String, Candle)> {
    let mut program = Program::new();
    program.graph.signature = model.table().signature.clone();
    let round = |tensor: &Candle| tensor.to_dtype(rounded).unwrap().to_dtype(DType::F32).unwrap();
    let args = inputs.iter().map(|input| program.constant(round(input))).collect::<Vec<_>>();
    let value = write(&mut program, &args);
    program.graph.saves.push(value);
    let facts = model.scan(program.graph.clone()).unwrap().remove(0);
    let shape = facts.axes.iter().map(|axis| axis.size.unwrap()).collect::<Vec<_>>();
    let weights = program.constant(round(&normal(9, &shape, 1.0, 0.0)));
    if let Some(Constant { names, .. }) = program.graph.constants.last_mut() {
        *names = facts.axes.iter().map(|axis| axis.name.to_string()).collect();
    }
    let weighted = program.push(Op::Binary(Binary::Mul), &[value, weights]);
    let loss = program.push(Op::Reduce { reduce: Reduce::Sum, axis: None, keep: false }, &[weighted]);
    let gradients = args.iter().map(|&arg| program.push(Op::Grad, &[arg, loss])).collect::<Vec<_>>();
    program.graph.saves.extend(gradients);
    let names = std::iter::once("value".to_string()).chain((0..inputs.len()).map(|place| format!("gradient {place}")));
    names.zip(model.execute(program.graph).unwrap()).collect()
}

/// The errors of all cases in a type.
pub fn errors(dtype: DType, load: impl Fn(DType) -> Llama<Dynamic>) -> Errors {
    let (half, full) = (load(dtype), load(DType::F32));
    let mut errors = Errors::new();
    for (name, inputs, write) in cases() {
        let (found, expected) = (run(&half, &inputs, write, dtype), run(&full, &inputs, write, dtype));
        for ((key, found), (_, expected)) in found.into_iter().zip(expected) {
            assert_eq!(found.dtype(), dtype, "{name}");
            errors.entry(name.to_string()).or_default().insert(key, error(&found, &expected));
        }
    }
    errors
}
