//! Random graphs: the interleaver gives what candle gives when the same is computed by hand.

use nnsight::candle_core::{D, Tensor as Candle};
use nnsight::graph::{
    At, Binary, Compare, Constant, ConstantId, Invoke, InvokeId, Node, NodeId, Op, Reduce, Region, SiteId, Source as Line, SourceId, Step, Unary,
};
use nnsight::prelude::*;
use nnsight::trace::Traceable;
use proptest::prelude::*;

use crate::shared::{difference, identical, tiny_llama};

const TOKENS: [u32; 4] = [3, 17, 5, 40];
const SITES: [&str; 4] = ["layers.0.output", "layers.1.resid_mid", "layers.1.mlp.output", "layers.2.output"];

/// An operation on values of the shape (1, 4, 32), which is kept; numbers choose the arguments among those that exist.
#[derive(Clone, Debug)]
enum Choice {
    Unary(Unary, usize),
    Binary(Binary, usize, usize),
    WithNumber(Binary, usize, i8),
    Where(usize, usize, usize),
    Softmax(usize, usize, bool),
    CumSum(usize, usize),
    Center(Reduce, usize, usize),
    Patch(usize, usize, i64, i64),
    Cat(usize, usize),
    Constant(Vec<i8>),
}

fn choice() -> impl Strategy<Value = Choice> {
    let unary = prop_oneof![
        Just(Unary::Neg),
        Just(Unary::Tanh),
        Just(Unary::Sigmoid),
        Just(Unary::Silu),
        Just(Unary::Gelu),
        Just(Unary::Relu),
        Just(Unary::Abs),
        Just(Unary::Clamp(-1.0, 2.0)),
    ];
    let binary = || prop_oneof![Just(Binary::Add), Just(Binary::Sub), Just(Binary::Mul), Just(Binary::Maximum), Just(Binary::Minimum)];
    let reduce = prop_oneof![Just(Reduce::Mean), Just(Reduce::Max), Just(Reduce::Min)];
    prop_oneof![
        (unary, any::<usize>()).prop_map(|(op, a)| Choice::Unary(op, a)),
        (binary(), any::<usize>(), any::<usize>()).prop_map(|(op, a, b)| Choice::Binary(op, a, b)),
        (binary(), any::<usize>(), any::<i8>()).prop_map(|(op, a, number)| Choice::WithNumber(op, a, number)),
        (any::<usize>(), any::<usize>(), any::<usize>()).prop_map(|(a, b, c)| Choice::Where(a, b, c)),
        (any::<usize>(), 1..3usize, any::<bool>()).prop_map(|(a, axis, log)| Choice::Softmax(a, axis, log)),
        (any::<usize>(), 1..3usize).prop_map(|(a, axis)| Choice::CumSum(a, axis)),
        (reduce, any::<usize>(), 1..3usize).prop_map(|(reduce, a, axis)| Choice::Center(reduce, a, axis)),
        (any::<usize>(), any::<usize>(), 0..3i64, 1..32i64).prop_map(|(a, b, row, width)| Choice::Patch(a, b, row, width)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Choice::Cat(a, b)),
        prop::collection::vec(any::<i8>(), 32).prop_map(Choice::Constant),
    ]
}

/// The first `row` positions and `width` last channels.
fn corner(row: i64, width: i64) -> Region {
    Region(vec![Step { axis: 1, start: 0, end: Some(row + 1), single: false }, Step { axis: 2, start: -width, end: None, single: false }])
}

fn build(choices: &[Choice]) -> Graph {
    let mut nodes = Vec::new();
    let mut constants = Vec::new();
    let node = |op, args: Vec<u32>| Node { op, args: args.into_iter().map(NodeId).collect(), guards: vec![], source: SourceId(0) };
    // The values of the full shape; what comes later chooses among them.
    let mut values = Vec::new();
    for site in 0..SITES.len() as u32 {
        values.push(nodes.len() as u32);
        nodes.push(node(Op::Get { at: At::first(InvokeId(0)), site: SiteId(site) }, vec![]));
    }
    for choice in choices {
        let pick = |index: &usize| values[index % values.len()];
        let next = nodes.len() as u32;
        match choice {
            Choice::Unary(op, a) => nodes.push(node(Op::Unary(*op), vec![pick(a)])),
            Choice::Binary(op, a, b) => nodes.push(node(Op::Binary(*op), vec![pick(a), pick(b)])),
            Choice::WithNumber(op, a, number) => {
                nodes.push(node(Op::Scalar(f64::from(*number) / 16.0), vec![]));
                nodes.push(node(Op::Binary(*op), vec![pick(a), next]));
            }
            Choice::Where(a, b, c) => {
                nodes.push(node(Op::Compare(Compare::Gt), vec![pick(a), pick(b)]));
                nodes.push(node(Op::Where, vec![next, pick(b), pick(c)]));
            }
            Choice::Softmax(a, axis, log) => nodes.push(node(Op::Softmax { axis: *axis, log: *log }, vec![pick(a)])),
            Choice::CumSum(a, axis) => nodes.push(node(Op::CumSum { axis: *axis }, vec![pick(a)])),
            Choice::Center(reduce, a, axis) => {
                nodes.push(node(Op::Reduce { reduce: *reduce, axis: Some(*axis), keep: true }, vec![pick(a)]));
                nodes.push(node(Op::Binary(Binary::Sub), vec![pick(a), next]));
            }
            Choice::Patch(a, b, row, width) => {
                nodes.push(node(Op::Slice(corner(*row, *width)), vec![pick(b)]));
                nodes.push(node(Op::Patch(corner(*row, *width)), vec![pick(a), next]));
            }
            Choice::Cat(a, b) => {
                let half = |start, end| Region(vec![Step { axis: 2, start, end, single: false }]);
                nodes.push(node(Op::Slice(half(0, Some(16))), vec![pick(a)]));
                nodes.push(node(Op::Slice(half(16, None)), vec![pick(b)]));
                nodes.push(node(Op::Cat { axis: 2 }, vec![next, next + 1]));
            }
            Choice::Constant(numbers) => {
                let numbers = numbers.iter().map(|&x| f32::from(x) / 64.0).collect::<Vec<_>>();
                let tensor = Candle::from_vec(numbers, 32, &Device::Cpu).unwrap();
                nodes.push(node(Op::Constant(ConstantId(constants.len() as u32)), vec![]));
                constants.push(Constant { names: vec!["Hidden".into()], tensor });
                nodes.push(node(Op::Binary(Binary::Add), vec![values[0], next]));
            }
        }
        values.push(nodes.len() as u32 - 1);
    }
    Graph {
        signature: "Dynamic".into(),
        invokes: vec![Invoke { inputs: vec![Prompt::Tokens(TOKENS.to_vec()).into()], ..Invoke::default() }],
        sites: SITES.iter().map(ToString::to_string).collect(),
        constants,
        saves: values.into_iter().map(NodeId).collect(),
        nodes,
        sources: vec![Line { file: "random.rs".into(), line: 1, column: 1 }],
        functions: vec![],
    }
}

pub fn random_graph() -> impl Strategy<Value = Graph> {
    prop::collection::vec(choice(), 0..24).prop_map(|choices| build(&choices))
}

/// The same with candle alone, written without a look at the library's own evaluation.
fn eager(choices: &[Choice], sites: &[Candle]) -> nnsight::candle_core::Result<Vec<Candle>> {
    let mut values = sites.to_vec();
    for choice in choices {
        let pick = |index: &usize| &values[index % values.len()];
        let binary = |op: &Binary, a: &Candle, b: &Candle| match op {
            Binary::Add => a.broadcast_add(b),
            Binary::Sub => a.broadcast_sub(b),
            Binary::Mul => a.broadcast_mul(b),
            Binary::Div => a.broadcast_div(b),
            Binary::Maximum => a.broadcast_maximum(b),
            Binary::Minimum => a.broadcast_minimum(b),
        };
        let value = match choice {
            Choice::Unary(op, a) => {
                let x = pick(a);
                match op {
                    Unary::Neg => x.affine(-1.0, 0.0)?,
                    Unary::Tanh => x.tanh()?,
                    Unary::Sigmoid => nnsight_sigmoid(x)?,
                    Unary::Silu => (x * nnsight_sigmoid(x)?)?,
                    Unary::Gelu => {
                        let inner = ((x + (x.sqr()? * x)?.affine(0.044715, 0.0)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
                        (x * 0.5)?.mul(&(inner.tanh()? + 1.0)?)?
                    }
                    Unary::Relu => x.maximum(&x.zeros_like()?)?,
                    Unary::Abs => x.maximum(&x.neg()?)?,
                    _ => x.maximum(&(x.zeros_like()? - 1.0)?)?.minimum(&(x.zeros_like()? + 2.0)?)?,
                }
            }
            Choice::Binary(op, a, b) => binary(op, pick(a), pick(b))?,
            Choice::WithNumber(op, a, number) => {
                let number = Candle::full(f32::from(*number) / 16.0, (1, 4, 32), &Device::Cpu)?;
                binary(op, pick(a), &number)?
            }
            Choice::Where(a, b, c) => pick(a).gt(pick(b))?.where_cond(pick(b), pick(c))?,
            Choice::Softmax(a, axis, log) => {
                let x = pick(a);
                let e = x.broadcast_sub(&x.max_keepdim(*axis)?)?;
                let sum = e.exp()?.sum_keepdim(*axis)?;
                if *log { e.broadcast_sub(&sum.log()?)? } else { e.exp()?.broadcast_div(&sum)? }
            }
            Choice::CumSum(a, axis) => {
                let x = pick(a);
                let mut rows = vec![x.narrow(*axis, 0, 1)?];
                for index in 1..x.dim(*axis)? {
                    rows.push((rows.last().unwrap() + x.narrow(*axis, index, 1)?)?);
                }
                Candle::cat(&rows, *axis)?
            }
            Choice::Center(reduce, a, axis) => {
                let x = pick(a);
                let center = match reduce {
                    Reduce::Mean => (x.sum_keepdim(*axis)? / x.dim(*axis)? as f64)?,
                    Reduce::Max => x.max_keepdim(*axis)?,
                    _ => x.min_keepdim(*axis)?,
                };
                x.broadcast_sub(&center)?
            }
            Choice::Patch(a, b, row, width) => {
                let (row, width) = (*row as usize + 1, *width as usize);
                let rows = Candle::arange(0u32, 4, &Device::Cpu)?.lt(row as u32)?.reshape((1, 4, 1))?;
                let columns = Candle::arange(0u32, 32, &Device::Cpu)?.ge((32 - width) as u32)?.reshape((1, 1, 32))?;
                rows.broadcast_mul(&columns)?.where_cond(pick(b), pick(a))?
            }
            Choice::Cat(a, b) => {
                let left = Candle::arange(0u32, 32, &Device::Cpu)?.lt(16u32)?.broadcast_as((1, 4, 32))?;
                left.where_cond(pick(a), pick(b))?
            }
            Choice::Constant(numbers) => {
                let numbers = numbers.iter().map(|&x| f32::from(x) / 64.0).collect::<Vec<_>>();
                values[0].broadcast_add(&Candle::from_vec(numbers, 32, &Device::Cpu)?)?
            }
        };
        values.push(value);
    }
    Ok(values)
}

fn nnsight_sigmoid(x: &Candle) -> nnsight::candle_core::Result<Candle> {
    let one = x.ones_like()?;
    one.broadcast_div(&(x.neg()?.exp()? + 1.0)?)
}

fn largest(x: &Candle) -> f64 {
    x.abs().unwrap().flatten_all().unwrap().max(D::Minus1).unwrap().to_scalar::<f32>().unwrap().into()
}

proptest! {
    #![proptest_config(crate::shared::cases(128))]

    #[test]
    fn a_random_graph_gives_what_candle_gives(choices in prop::collection::vec(choice(), 0..24)) {
        let model = tiny_llama();
        let found = model.execute(build(&choices)).unwrap();
        let sites = found[..SITES.len()].to_vec();
        let expected = eager(&choices, &sites).unwrap();
        prop_assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let scale = largest(expected).max(1.0);
            if scale.is_finite() && scale < 1e6 {
                let difference = difference(found, expected);
                prop_assert!(difference < 1e-4 * scale, "value {}: {}", index, difference);
            }
        }
    }

    /// What is computed beside the model leaves the model alone.
    #[test]
    fn reading_changes_nothing(choices in prop::collection::vec(choice(), 0..12)) {
        let model = tiny_llama();
        let untouched = trace!(model, TOKENS.to_vec(), { model.layers[2].output }).unwrap();
        let found = model.execute(build(&choices)).unwrap();
        prop_assert!(identical(&found[3], &untouched));
    }

    /// The CPU kernel writes what the reference writes.
    #[test]
    fn patching_on_the_cpu_is_patching(dims in prop::collection::vec(1..5usize, 1..5), parts in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 0..4), transposed in any::<bool>()) {
        use nnsight::graph::Span;
        use nnsight::kernels::{Extent, part, patch, reference};
        let mut base = Candle::rand(-1f32, 1.0, dims.as_slice(), &Device::Cpu).unwrap();
        if transposed && dims.len() > 1 {
            base = base.transpose(0, dims.len() - 1).unwrap();
        }
        let mut sizes = base.dims().to_vec();
        let mut extents = Vec::new();
        for (axis, start, len) in parts {
            let axis = axis % sizes.len();
            let start = start % sizes[axis];
            let len = 1 + len % (sizes[axis] - start);
            sizes[axis] = len;
            extents.push(Extent { axis, span: Span { start, len } });
        }
        let value = Candle::rand(2f32, 3.0, sizes.as_slice(), &Device::Cpu).unwrap();
        let before = base.copy().unwrap();
        let patched = patch(&base, &extents, &value).unwrap();
        prop_assert!(identical(&patched, &reference::patch(&base, &extents, &value).unwrap()));
        prop_assert!(identical(&part(&patched, &extents).unwrap(), &value));
        prop_assert!(identical(&base, &before));
    }
}
