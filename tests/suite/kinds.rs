//! Graphs on kinds of numbers that nothing can be computed of: refused before they run, or computed exactly. None ends the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nnsight::candle_core::Tensor as Candle;
use nnsight::graph::{
    At, Binary, Compare, Constant, ConstantId, Invoke, InvokeId, Logic, Node, NodeId, Op, Reduce, Region, SiteId, Source as Line, SourceId, Unary,
};
use nnsight::prelude::*;
use nnsight::trace::Traceable;
use nnsight::types::KindTag;
use proptest::prelude::*;

use crate::shared::{numbers, tiny_llama};

const TOKENS: [u32; 4] = [3, 17, 5, 40];

fn node(op: Op, args: &[u32]) -> Node {
    Node { op, args: args.iter().copied().map(NodeId).collect(), guards: vec![], source: SourceId(0) }
}

/// Node 0 is the token ids, node 1 the residual stream after the first layer; the last of the others is saved.
fn graph(others: Vec<Node>, constants: Vec<Candle>) -> Graph {
    let get = |site| node(Op::Get { at: At::first(InvokeId(0)), site: SiteId(site) }, &[]);
    let nodes = [get(0), get(1)].into_iter().chain(others).collect::<Vec<_>>();
    let constant = |tensor: Candle| Constant { names: (0..tensor.rank()).map(|axis| format!("Axis{axis}")).collect(), tensor };
    Graph {
        signature: "Dynamic".into(),
        invokes: vec![Invoke { inputs: vec![Prompt::Tokens(TOKENS.to_vec()).into()], ..Invoke::default() }],
        sites: vec!["embed_tokens.input".into(), "layers.0.output".into()],
        constants: constants.into_iter().map(constant).collect(),
        saves: vec![NodeId(nodes.len() as u32 - 1)],
        nodes,
        sources: vec![Line { file: "sent.rs".into(), line: 7, column: 1 }],
        functions: vec![],
    }
}

fn run(others: Vec<Node>, constants: Vec<Candle>) -> Result<Vec<f64>, String> {
    match tiny_llama().execute(graph(others, constants)) {
        Ok(found) => Ok(numbers(&found[0])),
        Err(error) => Err(error.to_string()),
    }
}

/// Asserts that the last node is refused with its line and these words.
fn refused(others: Vec<Node>, constants: Vec<Candle>, words: &str) {
    let error = run(others, constants).unwrap_err();
    assert!(error.starts_with("sent.rs:7:1: ") && error.contains(words), "{words:?} is not in: {error}");
}

fn store(dtype: &str) -> Op {
    Op::Store { dtype: Some(dtype.into()), host: false }
}

fn ints(entries: &[i64]) -> Candle {
    Candle::new(entries, &Device::Cpu).unwrap()
}

#[test]
fn functions_that_whole_numbers_do_not_have() {
    for unary in [
        Unary::Exp,
        Unary::Ln,
        Unary::Sqrt,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Gelu,
        Unary::Silu,
        Unary::Recip,
        Unary::Powf(2.0),
        Unary::Clamp(0.5, 3.0),
    ] {
        let name = Op::Unary(unary).name();
        refused(vec![node(Op::Unary(unary), &[0])], vec![], &format!("`{name}`"));
        refused(vec![node(Op::Unary(unary), &[0])], vec![], "cast::<Float>()");
    }
    let cast = run(vec![node(Op::Cast(KindTag::Float), &[0]), node(Op::Unary(Unary::Sqr), &[2])], vec![]).unwrap();
    assert_eq!(cast, TOKENS.map(|token| f64::from(token * token)));
}

#[test]
fn functions_that_whole_numbers_have() {
    let of = |unary| run(vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::Unary(unary), &[2])], vec![ints(&[-3, 0, 7])]).unwrap();
    assert_eq!(of(Unary::Neg), [3.0, 0.0, -7.0]);
    assert_eq!(of(Unary::Abs), [3.0, 0.0, 7.0]);
    assert_eq!(of(Unary::Sqr), [9.0, 0.0, 49.0]);
    assert_eq!(of(Unary::Relu), [0.0, 0.0, 7.0]);
    assert_eq!(of(Unary::Clamp(-1.0, 5.0)), [-1.0, 0.0, 5.0]);
}

#[test]
fn values_that_are_kept_in_another_type() {
    for dtype in ["u8", "u32", "i64", "f16", "bf16", "f64"] {
        refused(vec![node(store(dtype), &[1]), node(Op::Unary(Unary::Exp), &[2])], vec![], &format!("kept as `{dtype}`"));
        refused(vec![node(store(dtype), &[1]), node(Op::Binary(Binary::Add), &[2, 1])], vec![], &format!("kept as `{dtype}`"));
        refused(vec![node(store(dtype), &[1]), node(Op::Softmax { axis: 2, log: false }, &[2])], vec![], &format!("kept as `{dtype}`"));
        // It can be kept, and cast back.
        assert_eq!(run(vec![node(store(dtype), &[1])], vec![]).unwrap().len(), 4 * 32);
        let back = run(vec![node(store(dtype), &[1]), node(Op::Cast(KindTag::Float), &[2]), node(Op::Unary(Unary::Abs), &[3])], vec![]);
        assert!(back.unwrap().iter().all(|x| *x >= 0.0));
    }
    for dtype in ["f8e4m3", "f8e8m0", "f6e2m3", "f6e3m2", "f4", "i16", "i32", "f7", ""] {
        refused(vec![node(store(dtype), &[1])], vec![], &format!("cannot be kept as `{dtype}`"));
    }
    // In the type that it has anyway it is the same value.
    assert!(run(vec![node(store("f32"), &[1]), node(Op::Unary(Unary::Exp), &[2])], vec![]).is_ok());
}

#[test]
fn whole_numbers_are_divided_and_added_exactly_or_not_at_all() {
    let of = |op, a: &[i64], b: &[i64]| {
        let constants = vec![ints(a), ints(b)];
        run(vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::Constant(ConstantId(1)), &[]), node(Op::Binary(op), &[2, 3])], constants)
    };
    let says = |result: Result<Vec<f64>, String>, words: &str| {
        let error = result.unwrap_err();
        assert!(error.starts_with("sent.rs:7:1: ") && error.contains(words), "{error}");
    };
    assert_eq!(of(Binary::Div, &[7, -7], &[2, 2]).unwrap(), [3.0, -3.0]);
    says(of(Binary::Div, &[7], &[0]), "7 / 0");
    says(of(Binary::Div, &[i64::MIN], &[-1]), "does not fit into 64 bits");
    says(of(Binary::Add, &[i64::MAX], &[1]), "does not fit into 64 bits");
    says(of(Binary::Sub, &[i64::MIN], &[1]), "does not fit into 64 bits");
    says(of(Binary::Mul, &[1 << 40], &[1 << 40]), "does not fit into 64 bits");
    let by_number = |number| run(vec![node(Op::Scalar(number), &[]), node(Op::Binary(Binary::Div), &[0, 2])], vec![]);
    assert_eq!(by_number(2.0).unwrap(), [1.0, 8.0, 2.0, 20.0]);
    says(by_number(0.0), "3 / 0");
    says(by_number(0.5), "0.5 is not a whole number");
    says(by_number(1e300), "is not a whole number of 64 bits");
    says(run(vec![node(Op::Full(0.5), &[0])], vec![]), "0.5 is not a whole number");
    let sum = |op| run(vec![node(Op::Constant(ConstantId(0)), &[]), node(op, &[2])], vec![ints(&[i64::MAX, 1])]);
    says(sum(Op::Reduce { reduce: Reduce::Sum, axis: Some(0), keep: false }), "does not fit into 64 bits");
    says(sum(Op::CumSum { axis: 0 }), "does not fit into 64 bits");
    assert_eq!(run(vec![node(Op::CumSum { axis: 1 }, &[0])], vec![]).unwrap(), [3.0, 20.0, 25.0, 65.0]);
}

#[test]
fn softmax_is_of_floats_along_an_axis_with_entries() {
    refused(vec![node(Op::Softmax { axis: 1, log: false }, &[0])], vec![], "`softmax`");
    refused(vec![node(Op::Softmax { axis: 1, log: true }, &[0])], vec![], "`log_softmax`");
    let empty = || vec![Candle::zeros((2, 0), DType::F32, &Device::Cpu).unwrap()];
    for log in [false, true] {
        refused(vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::Softmax { axis: 1, log }, &[2])], empty(), "Axis1 = 0 has no entries");
        // Along the other there is nothing to be computed.
        assert!(run(vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::Softmax { axis: 0, log }, &[2])], empty()).unwrap().is_empty());
    }
    for reduce in [Reduce::Max, Reduce::Min, Reduce::ArgMax, Reduce::ArgMin, Reduce::Mean, Reduce::Var] {
        for axis in [Some(1), None] {
            refused(vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::Reduce { reduce, axis, keep: false }, &[2])], empty(), "has no entries");
        }
    }
    let sum = Op::Reduce { reduce: Reduce::Sum, axis: Some(1), keep: false };
    assert_eq!(run(vec![node(Op::Constant(ConstantId(0)), &[]), node(sum, &[2])], empty()).unwrap(), [0.0, 0.0]);
}

#[test]
fn kinds_do_not_mix_by_themselves() {
    for op in [Op::Binary(Binary::Mul), Op::Compare(Compare::Lt)] {
        refused(vec![node(Op::Constant(ConstantId(0)), &[]), node(op, &[2, 1])], vec![ints(&[1; 32])], "is of kind Int");
    }
    refused(vec![node(Op::Compare(Compare::Gt), &[1, 1]), node(Op::Where, &[2, 0, 1])], vec![], "is of kind Int");
    refused(vec![node(Op::MatMul, &[0, 0])], vec![], "use `.cast::<Float>()`");
    refused(vec![node(Op::Call { module: "norm".into() }, &[0])], vec![], "of kind Int");
    refused(vec![node(Op::Logic(Logic::And), &[1, 1])], vec![], "expected a boolean tensor");
    refused(vec![node(Op::Cast(KindTag::Float), &[0]), node(Op::Patch(Region::default()), &[0, 2])], vec![], "does not go into whole numbers");
    // A mean of whole numbers is a number.
    let mean = |reduce| run(vec![node(Op::Reduce { reduce, axis: Some(1), keep: false }, &[0])], vec![]).unwrap();
    assert_eq!(mean(Reduce::Mean), [16.25]);
    assert_eq!(mean(Reduce::Max), [40.0]);
    assert_eq!(run(vec![node(Op::Cast(KindTag::Bool), &[0]), node(Op::Cast(KindTag::Int), &[2])], vec![]).unwrap(), [1.0; 4]);
}

#[test]
fn booleans_that_are_neither_0_nor_1_are_true() {
    let bytes = || vec![Candle::new(&[0u8, 1, 16, 255], &Device::Cpu).unwrap()];
    let both = vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::Logic(Logic::And), &[2, 2])];
    assert_eq!(run(both, bytes()).unwrap(), [0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn a_condition_is_one_boolean() {
    let mut guarded = graph(vec![node(Op::Unary(Unary::Exp), &[1])], vec![]);
    guarded.nodes[2].guards = vec![nnsight::graph::Guard { condition: NodeId(1), when: true }];
    let error = tiny_llama().execute(guarded).unwrap_err().to_string();
    assert!(error.contains("expected a boolean tensor"), "{error}");
    refused(vec![node(Op::Compare(Compare::Gt), &[1, 1]), node(Op::Choose, &[2, 1, 1])], vec![], "is not one boolean");
}

#[test]
fn the_largest_of_whole_numbers_are_those_of_64_bits() {
    let large = 1i64 << 53;
    let top = |indices| {
        let constants = vec![ints(&[large, large + 1, -5, large + 2])];
        run(vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::TopK { k: 3, indices }, &[2])], constants).unwrap()
    };
    assert_eq!(top(true), [3.0, 1.0, 0.0]);
}

#[test]
fn indices_outside_of_an_axis() {
    let index = |op: fn(usize) -> Op, entries: Candle| run(vec![node(Op::Constant(ConstantId(0)), &[]), node(op(2), &[1, 2])], vec![entries]);
    for entry in [32, i64::MAX, i64::MIN, -1] {
        let gather = index(|axis| Op::Gather { axis }, ints(&[entry; 4]).reshape((1, 4, 1)).unwrap());
        assert!(gather.unwrap_err().contains("index"), "{entry}");
    }
    let select = index(|axis| Op::IndexSelect { axis }, ints(&[i64::MIN]));
    assert!(select.unwrap_err().contains("index"));
    assert_eq!(index(|axis| Op::IndexSelect { axis }, ints(&[-1, 31])).unwrap().len(), 8);
    refused(
        vec![node(Op::Constant(ConstantId(0)), &[]), node(Op::Gather { axis: 2 }, &[1, 2])],
        vec![ints(&[0; 3]).reshape((1, 3, 1)).unwrap()],
        "indices",
    );
}

#[test]
fn token_ids_that_do_not_exist_are_not_written() {
    let written = |token: i64| {
        let set = Op::Set { at: At::first(InvokeId(0)), site: SiteId(0), region: Region::default(), unused: nnsight::graph::Unused::Refuse };
        let get = Op::Get { at: At::first(InvokeId(0)), site: SiteId(1) };
        let tokens = Candle::new(&[[token; 4]], &Device::Cpu).unwrap();
        run(vec![node(Op::Constant(ConstantId(0)), &[]), node(set, &[2]), node(get, &[])], vec![tokens])
    };
    assert_eq!(written(5).unwrap().len(), 4 * 32);
    // The last would be token 1 in 32 bits.
    for token in [-1, 64, i64::MIN, i64::MAX, (1 << 32) + 1] {
        assert!(written(token).is_err(), "{token}");
    }
    assert!(written((1 << 32) + 1).unwrap_err().contains("4294967297 is no token id"));
}

#[test]
fn a_closure_returns_what_it_was_declared_to() {
    let model = tiny_llama();
    let says = |result: Result<Tensor<Dynamic, (Batch, Seq, Hidden)>, nnsight::TraceError>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("kinds.rs:") && error.contains(words), "{error}");
    };
    // Fewer positions than the value had, another rank, another kind.
    says(trace!(model, TOKENS.to_vec(), { model.layers[0].output.apply((Batch, Seq, Hidden), |h| h.narrow(1, 0, 2)) }), "gave [1, 2, 32]");
    says(trace!(model, TOKENS.to_vec(), { model.layers[0].output.apply((Batch, Seq, Hidden), |h| h.sum(2)) }), "gave [1, 4]");
    says(trace!(model, TOKENS.to_vec(), { model.layers[0].output.apply((Batch, Seq, Hidden), |h| h.ge(0.0)) }), "type `u8`");
    says(trace!(model, TOKENS.to_vec(), { model.layers[0].output.apply((Batch, Seq, Hidden), |h| h.to_dtype(DType::I64)) }), "type `i64`");
    // Also while a loop repeats it.
    says(
        trace!(model, TOKENS.to_vec(), {
            let h = model.layers[0].output;
            while_loop(h, |h| h.norm_all().gt(0.5), |h| h.apply((Batch, Seq, Hidden), |h| h.narrow(1, 0, 2)))
        }),
        "gave [1, 2, 32]",
    );
    // Another type of the same kind is converted.
    let wide = trace!(model, TOKENS.to_vec(), { model.layers[0].output.apply((Batch, Seq, Hidden), |h| h.to_dtype(DType::F64)) }).unwrap();
    assert_eq!(wide.dtype(), DType::F32);
}

#[test]
fn what_candle_says_is_short() {
    let model = tiny_llama();
    let error = trace!(model, TOKENS.to_vec(), {
        model.layers[0].output.apply((Batch, Seq, Hidden), |h| {
            let entries = h.flatten_all()?.to_vec1::<f32>()?;
            Err(nnsight::candle_core::Error::Msg(format!("{entries:?}\n   0: a backtrace")).bt())
        })
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("kinds.rs:") && error.len() < 500 && !error.contains("backtrace"), "{error}");
}

/// Any operation on any of the values before it.
fn any_op() -> impl Strategy<Value = Op> {
    let unary = prop_oneof![
        Just(Unary::Neg),
        Just(Unary::Exp),
        Just(Unary::Sqrt),
        Just(Unary::Sqr),
        Just(Unary::Abs),
        Just(Unary::Gelu),
        Just(Unary::Silu),
        Just(Unary::Relu),
        Just(Unary::Recip),
        Just(Unary::Powf(1.5)),
        Just(Unary::Clamp(-1.0, 2.0)),
    ];
    let binary = prop_oneof![Just(Binary::Add), Just(Binary::Sub), Just(Binary::Mul), Just(Binary::Div), Just(Binary::Maximum)];
    let reduce = prop_oneof![
        Just(Reduce::Sum),
        Just(Reduce::Mean),
        Just(Reduce::Max),
        Just(Reduce::Var),
        Just(Reduce::Norm),
        Just(Reduce::ArgMax),
        Just(Reduce::ArgMin)
    ];
    let kind = prop_oneof![Just(KindTag::Float), Just(KindTag::Int), Just(KindTag::Bool)];
    let dtype = prop_oneof![Just("u8"), Just("u32"), Just("i64"), Just("f16"), Just("bf16"), Just("f64"), Just("i16"), Just("i32"), Just("f8e4m3")];
    prop_oneof![
        unary.prop_map(Op::Unary),
        binary.prop_map(Op::Binary),
        Just(Op::Compare(Compare::Le)),
        Just(Op::Logic(Logic::And)),
        Just(Op::Logic(Logic::Not)),
        (reduce, prop_oneof![Just(None), (0..4usize).prop_map(Some)], any::<bool>()).prop_map(|(reduce, axis, keep)| Op::Reduce {
            reduce,
            axis,
            keep
        }),
        (0..4usize, any::<bool>()).prop_map(|(axis, log)| Op::Softmax { axis, log }),
        (0..4usize).prop_map(|axis| Op::CumSum { axis }),
        Just(Op::MatMul),
        (0..3usize).prop_map(|axis| Op::Gather { axis }),
        (0..3usize).prop_map(|axis| Op::IndexSelect { axis }),
        (0..3usize).prop_map(|axis| Op::Scatter { axis }),
        (0..3usize).prop_map(|axis| Op::Pick { axis }),
        (0..3usize).prop_map(|axis| Op::Cat { axis }),
        Just(Op::Stack { name: "Side".into() }),
        Just(Op::Where),
        Just(Op::Choose),
        (1..5usize, any::<bool>()).prop_map(|(k, indices)| Op::TopK { k, indices }),
        (1..70usize).prop_map(|size| Op::OneHot { name: "One".into(), size }),
        prop_oneof![Just(0.0), Just(1.0), Just(0.5), Just(1e30)].prop_map(Op::Full),
        any::<u64>().prop_map(|seed| Op::Randn { seed }),
        kind.prop_map(Op::Cast),
        dtype.prop_map(store),
        Just(Op::Scalar(2.5)),
        Just(Op::Scalar(0.0)),
        (0..3u32).prop_map(|index| Op::Constant(ConstantId(index))),
        Just(Op::Merge { axis: 0, name: "Both".into() }),
        Just(Op::Rename { axis: 0, name: "Other".into() }),
    ]
}

proptest! {
    #![proptest_config(crate::shared::cases(400))]

    /// Whatever is put together: an error or a result, and never a panic.
    #[test]
    fn no_graph_ends_the_process(ops in prop::collection::vec((any_op(), any::<[u8; 3]>()), 1..12)) {
        let nodes = ops.iter().enumerate().map(|(index, (op, args))| {
            let (least, most) = op.arity();
            let count = least.max(most.min(2));
            // The later values are taken more often: what comes of one operation goes into the next.
            let arg = |byte: &u8| (index as u32 + 1).saturating_sub(u32::from(byte % 8));
            node(op.clone(), &args.iter().map(arg).take(count).collect::<Vec<_>>())
        });
        let constants = || vec![ints(&[i64::MIN, -1, 0, i64::MAX]), Candle::zeros((2, 0), DType::F32, &Device::Cpu).unwrap(), Candle::new(&[0u8, 200], &Device::Cpu).unwrap()];
        let nodes = nodes.collect::<Vec<_>>();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(nodes.clone(), constants())));
        prop_assert!(outcome.is_ok(), "{nodes:?}");
    }
}

/// Files that an earlier version of this library wrote: they are read as they were written.
#[test]
fn graphs_that_once_ended_the_process() {
    let read = |name: &str| Graph::from_msgpack(&std::fs::read(crate::shared::folder("tests/graphs").join(name)).unwrap()).unwrap();
    let error = tiny_llama().execute(read("softmax_of_tokens.bin")).unwrap_err().to_string();
    assert!(error.starts_with("fuzz.rs:"), "{error}");
    for name in ["square_of_tokens.bin", "negative_constant.bin"] {
        let graph = read(name);
        assert_eq!(Graph::from_msgpack(&graph.to_msgpack().unwrap()).unwrap(), graph);
        let outcome = catch_unwind(AssertUnwindSafe(|| tiny_llama().execute(graph).map(drop)));
        assert!(outcome.is_ok(), "{name}");
    }
}
