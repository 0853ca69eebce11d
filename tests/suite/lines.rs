//! Every node of a graph and every error has the line of the program that asked for it, whichever method that was.

use std::fmt::Debug;

use nnsight::graph::NodeId;
use nnsight::prelude::*;
use nnsight::{TraceError, candle_core};

use crate::shared::tiny_llama;

const PROMPT: [u32; 6] = [3, 17, 5, 40, 22, 8];

/// Lines and the values that were made there.
#[derive(Default)]
struct Made(Vec<(u32, String)>);

impl Made {
    /// Remembers what was made in the line of the caller.
    #[track_caller]
    fn add(&mut self, value: impl Debug) {
        self.0.push((std::panic::Location::caller().line(), format!("{value:?}")));
    }

    /// Holds the lines against those of the graph, and all of the graph's against this file.
    fn check(&self, graph: &Graph) {
        for source in &graph.sources {
            assert_eq!(source.file, file!(), "line {}", source.line);
        }
        for (line, value) in &self.0 {
            let id = value.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect::<String>();
            let id = NodeId(id.parse().unwrap_or_else(|_| panic!("{value} has no number")));
            let (found, op) = (graph.source(id).unwrap(), graph.node(id).op.name());
            assert_eq!((found.line, &*found.file), (*line, file!()), "`{op}`");
        }
    }
}

fn indices<S: nnsight::types::ShapeOf<Dynamic>>(dims: &[usize]) -> Tensor<Dynamic, S, Int> {
    Tensor::new(candle_core::Tensor::zeros(dims, DType::I64, &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn of_what_is_calculated() {
    let model = tiny_llama();
    let mut made = Made::default();
    let (list, best) = (indices::<(Stacked,)>(&[2]), indices::<(Batch, Seq)>(&[1, 6]));
    let graph = nnsight::graph!(model, PROMPT.to_vec(), {
        let h = model.layers[0].output.value();
        let a = model.layers[0].self_attn.q.value();
        made.add(h.exp());
        made.add(h.ln());
        made.add(h.sqrt());
        made.add(h.sqr());
        made.add(h.abs());
        made.add(h.tanh());
        made.add(h.sigmoid());
        made.add(h.gelu());
        made.add(h.silu());
        made.add(h.relu());
        made.add(h.recip());
        made.add(h.powf(2.0));
        made.add(h.clamp(0.0, 1.0));
        made.add(h.maximum(0.0));
        made.add(h.minimum(h));
        made.add(Traced::eq(h, 0.0));
        made.add(Traced::ne(h, 0.0));
        made.add(Traced::lt(h, 0.0));
        made.add(Traced::le(h, 0.0));
        made.add(Traced::gt(h, 0.0));
        made.add(Traced::ge(h, 0.0));
        made.add(h.sum(Seq));
        made.add(h.sum_keepdim(Seq));
        made.add(h.sum_all());
        made.add(h.mean(Seq));
        made.add(h.mean_keepdim(Seq));
        made.add(h.mean_all());
        made.add(Traced::max(h, Seq));
        made.add(h.max_keepdim(Seq));
        made.add(h.max_all());
        made.add(Traced::min(h, Seq));
        made.add(h.min_keepdim(Seq));
        made.add(h.min_all());
        made.add(h.var(Seq));
        made.add(h.var_keepdim(Seq));
        made.add(h.var_all());
        made.add(h.norm(Seq));
        made.add(h.norm_keepdim(Seq));
        made.add(h.norm_all());
        made.add(h.argmax(Seq));
        made.add(h.argmax_keepdim(Seq));
        made.add(h.argmax_all());
        made.add(h.argmin(Seq));
        made.add(h.argmin_keepdim(Seq));
        made.add(h.argmin_all());
        made.add(h.softmax(Hidden));
        made.add(h.log_softmax(Hidden));
        made.add(h.cumsum(Seq));
        made.add(h.matmul(h.transpose(Seq, Hidden)));
        made.add(h.transpose(Seq, Hidden));
        made.add(h.permute((Hidden, Batch, Seq)));
        made.add(a.split(HeadDim, (One, HeadDim)));
        made.add(h.merge((Seq, Hidden), Mlp));
        made.add(h.rename(Seq, Key));
        made.add(h.pick(Hidden, 3));
        made.add(h.pick(Hidden, best.traced(h)));
        made.add(best.traced(h));
        made.add(h.gather(Hidden, best.traced(h).one_hot(nnsight::types::Ranked, 2).cast::<Int>()));
        made.add(h.index_select(Seq, list.traced(h)));
        made.add(h.gt(0.0).where_(h, 0.0));
        made.add(h.topk(Hidden, 2).0);
        made.add(h.topk(Hidden, 2).1);
        made.add(h.topk(Seq, 2).0);
        made.add(h.topk(Seq, 2).1);
        made.add(h.zeros_like());
        made.add(h.ones_like());
        made.add(h.randn_like(1));
        made.add(h.cast::<Int>());
        made.add(h.apply((Batch, Hidden), |h| h.sum(1)));
        made.add(h.apply_with(h, (Batch, Seq, Hidden), |a, b| a + b));
        made.add(h.operation("no.such", &[1.0], (Batch, Seq)));
        made.add(h.log("h"));
        made.add(h.print());
        made.add(h.at(Seq, 0));
        made.add(h.slice(Seq, 1..));
        made.add(h.with_at(Seq, 0, 1.0));
        made.add(h.with_slice(Seq, 1.., 1.0));
        made.add(best.traced(h).one_hot(Vocab, 64));
        made.add(h + 1.0);
        made.add(h - h);
        made.add(2.0 * h);
        made.add(1.0 / h);
        made.add(-h);
        made.add(h.gt(0.0) & h.lt(1.0));
        made.add(h.gt(0.0) | h.lt(1.0));
        made.add(!h.gt(0.0));
        made.add(cat(&[h, h], Seq));
        made.add(stack(&[h, h]));
        made.add(cat(&[model.layers[0].mlp.output, model.layers[1].mlp.output], Seq));
        made.add(stack(&[model.layers[0].input, model.layers[1].input]));
        made.add(model.lm_head(h));
        made.add(while_loop(h, |h| h.norm_all().gt(1.0), |h| h * 0.5));
        made.add(fold(h, Seq, h.at(Seq, 0), |sum, row| sum + row));
    });
    made.check(&graph.unwrap());
}

#[test]
fn of_what_is_read_and_written() {
    let model = tiny_llama();
    let mut made = Made::default();
    let graph = nnsight::graph!(model, PROMPT.to_vec(), {
        made.add(model.layers[0].input.value());
        made.add(model.layers[0].mlp.output.at(Seq, 0).value());
        made.add(model.layers[0].mlp.input.slice(Seq, 1..).at(Hidden, 0).value());
        made.add(model.layers[0].self_attn.z.head(1).value());
        made.add(model.layers[0].self_attn.output.select(Seq, [0, 1]).value());
        made.add(model.get::<(Batch, Seq, Hidden), Float>("layers.1.mlp.input").value());
        made.add(model.layers.layer(1).self_attn.input.value());
        made.add(model.block(2).attn_out().value());
        made.add(model.blocks(1).hook_resid_mid().value());
        model.layers[0].mlp.output = 0.0;
        model.layers[0].mlp.output += 1.0;
        model.layers[0].output.at(Seq, 1) *= 2.0;
        model.layers[1].output.select(Seq, [0, 1]) = 0.0;
        model.layers[1].output.select(Seq, vec![2]) -= 1.0;
        model.layers[1].output.masked(model.layers[1].output.gt(0.0)) = 0.0;
        model.layers[1].output.masked(model.layers[1].output.lt(0.0)) /= 2.0;
        effect(model.layers[2].mlp.output) = 0.0;
        effect(model.layers[2].mlp.output.at(Seq, 0)) += 1.0;
        model.layers[2].skip(model.layers[1].output);
        let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
        model.layers[1].output.at(Seq, 1).grad(loss) *= 2.0;
        made.add(model.layers[0].output.grad(loss).value());
        stop!(model.lm_head.output);
    });
    let graph = graph.unwrap();
    made.check(&graph);
    // Of everything that is written, the line is that of the assignment: none shares its line with what another wrote.
    let written = graph.iter().filter(|(_, node)| node.op.has_effect()).map(|(id, _)| graph.source(id).unwrap().line).collect::<Vec<_>>();
    let mut lines = written.clone();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((written.len(), lines.len()), (12, 12), "{written:?}");
}

#[test]
fn of_what_a_block_ends_with() {
    #[derive(Save)]
    struct Both<'t, C: Signature> {
        a: Value<'t, C, (Batch, Seq, Hidden)>,
        b: Vec<Value<'t, C, (Batch, Seq, Hidden)>>,
    }
    let model = tiny_llama();
    let here = |graph: Graph| {
        assert!(!graph.sources.is_empty());
        assert!(graph.sources.iter().all(|source| source.file == file!()), "{:?}", graph.sources);
    };
    here(nnsight::graph!(model, PROMPT.to_vec(), { vec![model.layers[0].output.at(Seq, 0)] }).unwrap());
    here(nnsight::graph!(model, PROMPT.to_vec(), { [model.layers[0].output, model.layers[1].output] }).unwrap());
    here(nnsight::graph!(model, PROMPT.to_vec(), { Some(model.layers[0].output.at(Seq, 0)) }).unwrap());
    here(nnsight::graph!(model, PROMPT.to_vec(), { (model.layers[0].output, vec![Some(model.layers[1].output)]) }).unwrap());
    here(nnsight::graph!(model, PROMPT.to_vec(), { Both { a: model.layers[0].output, b: vec![model.layers[1].output] } }).unwrap());
    here(nnsight::graph!(model, PROMPT.to_vec(), { model.cache(&Keep::both().on_host()) }).unwrap());
    here(nnsight::graph!(model, PROMPT.to_vec(), { model.layers[1].cache(&Keep::both().dtype(DType::F16)) }).unwrap());
}

#[test]
fn of_the_steps_of_a_generation() {
    let model = tiny_llama();
    let mut made = Made::default();
    let graph = nnsight::graph!(model, PROMPT.to_vec(), max_new_tokens = 4, {
        made.add(model.tokens());
        made.add(model.prompt().layers[0].output.value());
        made.add(model.step(1).layers[0].output.value());
        made.add(model.step(1).next().layers[0].output.value());
        for step in model.steps(2..) {
            made.add(step.layers[1].output.value());
        }
        let norms = model.steps(..).map(|step| step.layers[2].output.norm_all());
        (model.cache(&Keep::outputs()), norms)
    });
    made.check(&graph.unwrap());
}

/// The line of this file that an error has.
fn line_of<T>(result: Result<T, TraceError>) -> u32 {
    let error = result.err().expect("this should have been refused");
    let source = error.source_line().unwrap_or_else(|| panic!("{error} has no line")).clone();
    assert_eq!(source.file, file!(), "{error}");
    source.line
}

#[test]
#[rustfmt::skip]
fn of_errors() {
    let (model, prompt) = (tiny_llama(), PROMPT.to_vec());
    let (far, many) = (9usize, Optimizations::default());
    let zeros = candle_core::Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let mut named = Llama::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap();
    assert_eq!(line_of(trace!(model, &prompt, { model.layers[far].output })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.layers.layer(far).output })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.block(far).resid_post() })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.blocks(far).hook_resid_post() })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.get::<(Batch, Seq, Hidden), Float>("no.such") })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.layers[0].get::<(Batch, Seq), Float>("output") })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.layers[0].output.slice(Seq, ..).slice(Part(Seq), ..).slice(Part(Part(Seq)), ..).slice(Part(Part(Part(Seq))), ..).slice(Part(Part(Part(Part(Seq)))), ..).slice(Part(Part(Part(Part(Part(Seq))))), ..) })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.cache(&Keep::outputs().of(["no.such"])) })), line!());
    assert_eq!(line_of(generate!(model, &prompt, max_new_tokens = 3, { model.step(7).layers[0].output })), line!());
    assert_eq!(line_of(generate!(model, &prompt, max_new_tokens = 3, { model.step(-4).layers[0].output })), line!());
    assert_eq!(line_of(generate!(model, &prompt, max_new_tokens = 3, { model.step(2).next().layers[0].output })), line!());
    assert_eq!(line_of(generate!(model, &prompt, max_new_tokens = 3, { model.steps([5]).map(|step| step.layers[0].output) })), line!());
    assert_eq!(line_of(generate!(model, &prompt, max_new_tokens = 0, { model.tokens() })), line!());
    assert_eq!(line_of(trace!(model, Vec::<u32>::new(), { model.lm_head.output })), line!());
    assert_eq!(line_of(trace!(model, Vec::<String>::new(), { model.lm_head.output })), line!());
    assert_eq!(line_of(trace!(model, Prompt::masked(&prompt, &[true]), { model.lm_head.output })), line!());
    assert_eq!(line_of(trace!(model, "text", { model.lm_head.output })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.layers[0].output.at(Seq, 99) })), line!());
    assert_eq!(line_of(scan!(model, &prompt, { model.layers[0].output.at(Seq, 99) })), line!());
    assert_eq!(line_of(trace!(model, &prompt, { model.layers[0].output.grad(model.layers[0].input.sum_all()) })), line!());
    assert_eq!(line_of(sweep!(model, &prompt, for at in [99] { model.layers[0].output.at(Seq, at) })), line!());
    assert_eq!(line_of(sweep!(model, &prompt, for at in Vec::<i64>::new() { model.layers[0].output.at(Seq, at) })), line!());
    assert_eq!(line_of(edit!(model, { stop!(model.layers[0].output) })), line!());
    assert_eq!(line_of(Tensor::<Dynamic, (Hidden,)>::new(zeros.clone())), line!());
    assert_eq!(line_of(Tensor::<Dynamic, (Batch, Seq), Int>::new(zeros.clone())), line!());
    assert_eq!(line_of(Tensor::<Dynamic, (Batch, Hidden)>::new(zeros.clone()).unwrap().to_signature::<SmolLm2_135M>()), line!());
    assert_eq!(line_of(named.alias("other", "no.such")), line!());
    assert_eq!(line_of(named.alias("layers.0", "layers.1")), line!());
    assert_eq!(line_of(named.with_optimizations(many).with_transformer_lens_names().and_then(|mut named| named.alias("ln_final", "norm"))), line!());
}

#[test]
fn of_a_model_that_cannot_be_loaded() {
    fn place<T>(result: nnsight::Result<T>) -> (u32, u32, String) {
        let error = result.err().expect("this should have been refused");
        let source = error.source_line().unwrap_or_else(|| panic!("{error} has no line")).clone();
        assert_eq!(source.file, file!(), "{error}");
        assert!(error.to_string().starts_with(&format!("{source}: ")), "{error}");
        (source.line, source.column, format!("{error:?}"))
    }
    let (other, missing) = (crate::shared::folder("tests/reference/gpt2"), crate::shared::folder("no/such/folder"));
    let (line, column, shown) = place(Llama::<SmolLm2_135M>::load(Source::from(other)));
    assert_eq!((line, column), (line!() - 1, 39));
    let gutter = " ".repeat(line.to_string().len());
    let code = "    let (line, column, shown) = place(Llama::<SmolLm2_135M>::load(Source::from(other)));";
    let (last, first) = nnsight::models::ARCHITECTURES.split_last().unwrap();
    let all = format!("`{}` and `{last}`", first.join("`, `"));
    let expected = [
        "expected a `llama` checkpoint, found `gpt2`".to_string(),
        format!("{gutter}--> {}:{line}:{column}", file!()),
        format!("{gutter} |"),
        format!("{line} | {code}"),
        format!("{gutter} | {}^", " ".repeat(38)),
        format!("{gutter} = help: what can be loaded is {all}"),
    ];
    assert_eq!(shown, expected.join("\n"));
    let target = tempfile::tempdir().unwrap();
    assert_eq!(place(Gpt2::<Dynamic>::load(missing.as_path())).0, line!());
    assert_eq!(place(Gpt2::<Dynamic>::load("no-such-model")).0, line!());
    assert_eq!(place(Gpt2::<Dynamic>::convert(missing.as_path(), target.path())).0, line!());
    assert_eq!(place(nnsight::models::Tokenizer::from_file(&missing)).0, line!());
    let (line, _, shown) = place(Llama::<Dynamic>::meta());
    assert_eq!(line, line!() - 1);
    assert!(shown.starts_with("`Dynamic` knows no sizes; a model without weights needs the signature of a checkpoint\n"), "{shown}");
    assert!(shown.ends_with("= help: use the signature of a checkpoint, such as `Llama3_1_8B`"), "{shown}");
}

#[test]
#[rustfmt::skip]
fn of_prompts_that_are_wrong() {
    fn place<T>(result: Result<T, TraceError>) -> (u32, u32) {
        let error = result.err().expect("this should have been refused");
        let source = error.source_line().unwrap_or_else(|| panic!("{error} has no line")).clone();
        assert_eq!(source.file, file!(), "{error}");
        (source.line, source.column)
    }
    let (model, good, empty, unknown) = (tiny_llama(), PROMPT.to_vec(), Vec::<u32>::new(), vec![1_000_000u32]);
    let long = vec![1u32; 1 << 20];
    for wrong in [&empty, &unknown, &long] {
        let line = line!();
        let in_an_invoke = place(trace!(model, {
            let first = invoke!(&good, { model.layers[0].output });
            let second = invoke!(wrong, { model.layers[0].output });
            (first, second)
        }));
        assert_eq!(in_an_invoke, (line + 3, 34));
        let line = line!();
        let on_a_line_of_its_own = place(trace!(
            model,
            wrong.as_slice(),
            { model.lm_head.output }
        ));
        assert_eq!(on_a_line_of_its_own, (line + 3, 13));
        let line = line!();
        let continued = place(generate!(model, max_new_tokens = 2, {
            let first = invoke!(&good, { model.tokens() });
            let second = invoke!(wrong, { model.tokens() });
            (first, second)
        }));
        assert_eq!(continued, (line + 3, 34));
        let line = line!();
        let swept = place(sweep!(
            model,
            wrong,
            for layer in 0..2 { model.layers[layer].output }
        ));
        assert_eq!(swept, (line + 3, 13));
    }
}
