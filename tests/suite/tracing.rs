//! Reading and changing: what a value is, what an edit does, and in which order things happen.

use nnsight::gpt2::Gpt2LmHeadModel;
use nnsight::llama::{Block, LlamaForCausalLm};
use nnsight::prelude::*;
use nnsight::trace::Traceable;

use crate::shared::{difference, identical, numbers, tiny_gpt2, tiny_llama};

const PROMPT: [u32; 6] = [3, 17, 5, 40, 22, 8];

#[test]
fn assigning_a_value_to_where_it_was_read_changes_nothing() {
    let model = tiny_llama();
    let untouched = trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap();
    let written = trace!(model, PROMPT.to_vec(), {
        for layer in model.layers {
            layer.mlp.output = layer.mlp.output;
            layer.self_attn.z.head(1) = layer.self_attn.z.head(1);
            layer.self_attn.o_proj.input = layer.self_attn.o_proj.input;
            layer.output.slice(Seq, 1..4) = layer.output.slice(Seq, 1..4);
        }
        model.lm_head.output
    })
    .unwrap();
    assert!(identical(&untouched, &written));
    // Where somebody looks at the scores or the pattern, the attention is computed in steps, whose last bits differ.
    let pattern = trace!(model, PROMPT.to_vec(), {
        for layer in model.layers {
            layer.self_attn.pattern = layer.self_attn.pattern;
        }
        model.lm_head.output
    });
    assert!(difference(&untouched, &pattern.unwrap()) < 1e-6);
}

#[test]
fn a_value_that_was_read_never_changes() {
    let model = tiny_llama();
    let untouched = trace!(model, PROMPT.to_vec(), { model.layers[1].output }).unwrap();
    let (before, after) = trace!(model, PROMPT.to_vec(), {
        let before = model.layers[1].output.value();
        model.layers[1].output.at(Seq, 2) = 7.0;
        (before, model.layers[1].output)
    })
    .unwrap();
    assert!(identical(&before, &untouched));
    assert!(numbers(&after.at(Seq, 2)).iter().all(|&x| x == 7.0));
    assert!(identical(&after.at(Seq, 3), &untouched.at(Seq, 3)));
}

#[test]
fn assigning_to_a_slice_leaves_the_rest() {
    let model = tiny_llama();
    let (before, after) = trace!(model, PROMPT.to_vec(), {
        let before = model.layers[0].mlp.gate_proj.output.value();
        model.layers[0].mlp.gate_proj.output.slice(Seq, 1..3).slice(Mlp, -5..) *= 2.0;
        (before, model.layers[0].mlp.gate_proj.output)
    })
    .unwrap();
    let (before, after) = (before.squeeze(0).unwrap().to_vec2::<f32>().unwrap(), after.squeeze(0).unwrap().to_vec2::<f32>().unwrap());
    for (position, (before, after)) in before.iter().zip(&after).enumerate() {
        for (neuron, (before, after)) in before.iter().zip(after).enumerate() {
            let inside = (1..3).contains(&position) && neuron >= before_len(48);
            assert_eq!(*after, if inside { before * 2.0 } else { *before });
        }
    }
}

fn before_len(size: usize) -> usize {
    size - 5
}

#[test]
fn an_edit_moves_the_output() {
    let model = tiny_llama();
    let untouched = trace!(model, PROMPT.to_vec(), { model.lm_head.output }).unwrap();
    // Every site of every layer, so that none is dead.
    type Edit = fn(Block<Dynamic>);
    let edits: [(&str, Edit); 13] = [
        ("input", |b| b.input.__assign(b.input * 1.5)),
        ("input_layernorm", |b| b.input_layernorm.output.__assign(b.input_layernorm.output * 1.5)),
        ("q", |b| b.self_attn.q.__assign(b.self_attn.q * 1.5)),
        ("k", |b| b.self_attn.k.__assign(b.self_attn.k * 1.5)),
        ("v", |b| b.self_attn.v.__assign(b.self_attn.v * 1.5)),
        ("q_rot", |b| b.self_attn.q_rot.__assign(b.self_attn.q_rot * 1.5)),
        ("k_rot", |b| b.self_attn.k_rot.__assign(b.self_attn.k_rot * 1.5)),
        ("scores", |b| b.self_attn.scores.__assign(b.self_attn.scores * 0.5)),
        ("pattern", |b| b.self_attn.pattern.__assign(b.self_attn.pattern * 1.5)),
        ("z", |b| b.self_attn.z.__assign(b.self_attn.z * 1.5)),
        ("resid_mid", |b| b.resid_mid.__assign(b.resid_mid * 1.5)),
        ("act", |b| b.mlp.act.__assign(b.mlp.act * 1.5)),
        ("output", |b| b.output.__assign(b.output * 0.0)),
    ];
    for (name, edit) in edits {
        let edited = trace!(model, PROMPT.to_vec(), {
            edit(*model.layers.layer(1));
            model.lm_head.output
        })
        .unwrap();
        assert!(difference(&edited, &untouched) > 1e-3, "{name}");
    }
}

#[test]
fn each_prompt_of_a_batch_gives_what_it_gives_alone() {
    let prompts: [Vec<u32>; 4] = [vec![3, 17, 5, 40, 22, 8], vec![9], vec![1, 2, 3], vec![60, 50, 40, 30, 20, 10, 5, 1, 0, 2]];
    let llama = tiny_llama();
    let gpt2 = tiny_gpt2();
    let together = trace!(llama, {
        let all = prompts.iter().map(|prompt| invoke!(prompt, { (llama.layers[1].self_attn.pattern, llama.lm_head.output) }));
        all.collect::<Vec<_>>()
    })
    .unwrap();
    for (prompt, (pattern, logits)) in prompts.iter().zip(&together) {
        let alone = trace!(llama, prompt, { (llama.layers[1].self_attn.pattern, llama.lm_head.output) }).unwrap();
        assert!(difference(pattern, &alone.0) < 1e-5);
        assert!(difference(logits, &alone.1) < 1e-4);
    }
    let together = trace!(gpt2, { prompts.iter().map(|prompt| invoke!(prompt, { gpt2.lm_head.output })).collect::<Vec<_>>() }).unwrap();
    for (prompt, logits) in prompts.iter().zip(&together) {
        assert!(difference(logits, &trace!(gpt2, prompt, { gpt2.lm_head.output }).unwrap()) < 1e-4);
    }
}

#[test]
fn an_edit_of_one_prompt_leaves_the_others() {
    let model = tiny_llama();
    let (one, two) = trace!(model, {
        let one = invoke!(vec![1, 2, 3], {
            model.layers[0].output.at(Seq, 0) += 1.0;
            model.lm_head.output
        });
        (one, invoke!(vec![4, 5, 6, 7], { model.lm_head.output }))
    })
    .unwrap();
    let alone = trace!(model, vec![4, 5, 6, 7], { model.lm_head.output }).unwrap();
    assert!(difference(&two, &alone) < 1e-5);
    assert!(difference(&one, &trace!(model, vec![1, 2, 3], { model.lm_head.output }).unwrap()) > 1e-3);
}

#[test]
fn values_cross_prompts_in_any_order_that_has_no_circle() {
    let model = tiny_llama();
    // An early layer of one prompt from a late layer of the other: the other's pass runs first.
    let crossed = trace!(model, {
        let late = invoke!(vec![1, 2, 3], { model.layers[2].output.at(Seq, -1) });
        invoke!(vec![4, 5, 6], {
            model.layers[0].output.at(Seq, -1) = late;
            model.lm_head.output
        })
    })
    .unwrap();
    let late = trace!(model, vec![1, 2, 3], { model.layers[2].output.at(Seq, -1) }).unwrap();
    let by_hand = trace!(model, vec![4, 5, 6], {
        model.layers[0].output.at(Seq, -1) = &late;
        model.lm_head.output
    })
    .unwrap();
    assert!(difference(&crossed, &by_hand) < 1e-5);
}

#[test]
fn modules_applied_by_hand_give_what_they_give_in_the_pass() {
    let model = tiny_llama();
    let (by_hand, in_the_pass) = trace!(model, PROMPT.to_vec(), {
        let mlp = model.layers[1].mlp(model.layers[1].mlp.input);
        (mlp - model.layers[1].mlp.output, model.lm_head(model.norm(model.layers[-1].output.at(Seq, -1))) - model.lm_head.output.at(Seq, -1))
    })
    .map(|(a, b)| (numbers(&a), numbers(&b)))
    .map_err(|error| error.to_string())
    .unwrap();
    assert!(by_hand.iter().chain(&in_the_pass).all(|x| x.abs() < 1e-5));
}

#[intervene]
fn scale<'t, C: Signature>(block: Block<'t, C>, factor: f64) -> Value<'t, C, (Batch, Seq, Hidden)> {
    let before = block.output.value();
    block.output *= factor;
    before
}

#[test]
fn interventions_are_functions() {
    let model = tiny_llama();
    let (before, after) = trace!(model, PROMPT.to_vec(), {
        let before = scale(model.layers[1], 3.0);
        (before, model.layers[1].output)
    })
    .unwrap();
    let tripled = (&*before * 3.0).unwrap();
    assert!(difference(&after, &tripled) < 1e-6);
}

fn residuals<'t, C: Signature>(model: impl CausalLm<'t, C>) -> Vec<Value<'t, C, (Batch, Seq, Hidden)>> {
    model.layers().iter().map(|block| block.resid_post() - block.resid_pre() - block.attn_out() - block.mlp_out()).collect()
}

#[test]
fn one_function_serves_all_architectures() {
    let (llama, gpt2) = (tiny_llama(), tiny_gpt2());
    let sums = trace!(llama, PROMPT.to_vec(), { residuals(llama) }).unwrap();
    let more = trace!(gpt2, PROMPT.to_vec(), { residuals(gpt2) }).unwrap();
    for sum in sums.iter().chain(&more) {
        assert!(numbers(sum).iter().all(|x| x.abs() < 1e-4));
    }
}

#[derive(Save)]
struct Seen<'t> {
    /// The first layer.
    first: Value<'t, Dynamic, (Batch, Seq, Hidden)>,
    heads: Vec<Value<'t, Dynamic, (Batch, Query, Key)>>,
    maybe: Option<Value<'t, Dynamic, ()>>,
}

#[test]
fn a_struct_of_values_comes_back_as_a_struct_of_tensors() {
    let model = tiny_llama();
    let seen = trace!(model, PROMPT.to_vec(), {
        let heads = (0..4).map(|head| model.layers[0].self_attn.pattern.head(head)).collect();
        Seen { first: model.layers[0].output.value(), heads, maybe: None }
    })
    .unwrap();
    assert_eq!(seen.first.dims(), [1, 6, 32]);
    assert_eq!(seen.heads.len(), 4);
    assert!(seen.maybe.is_none());
    for head in &seen.heads {
        assert!(numbers(&head.sum(2).unwrap()).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }
}

#[test]
fn only_what_is_needed_is_run() {
    let model = tiny_llama();
    // The head's output is not asked for, and the token is so large that its embedding exists but its logits are never computed.
    let hidden = trace!(model, vec![63], { model.layers[0].input }).unwrap();
    assert_eq!(hidden.dims(), [1, 1, 32]);
    let nothing: () = trace!(model, vec![63], {}).unwrap();
    assert_eq!(nothing, ());
}

#[test]
fn declared_sites_are_passed_in_the_declared_order() {
    // A graph that reads every site of the model: the interleaver fails where the order, a path or a shape is not as declared.
    let llama = tiny_llama();
    let table = llama.table();
    let graph = all_sites(table);
    let values = llama.execute(graph).unwrap();
    assert_eq!(values.len(), table.sites().len());
    check_shapes(table, &values);
    let gpt2 = tiny_gpt2();
    check_shapes(gpt2.table(), &gpt2.execute(all_sites(gpt2.table())).unwrap());
    fn is_network<N: nnsight::models::Network>() {}
    is_network::<LlamaForCausalLm>();
    is_network::<Gpt2LmHeadModel>();
}

fn all_sites(table: &nnsight::module::SiteTable) -> Graph {
    use nnsight::graph::{At, Invoke, InvokeId, Node, NodeId, Op, SiteId, Source, SourceId};
    let count = table.sites().len() as u32;
    Graph {
        signature: table.signature.clone(),
        invokes: vec![Invoke { inputs: vec![Prompt::Tokens(PROMPT.to_vec()).into()], ..Invoke::default() }],
        sites: table.sites().iter().map(|site| site.path.clone()).collect(),
        nodes: (0..count)
            .map(|site| Node { op: Op::Get { at: At::first(InvokeId(0)), site: SiteId(site) }, args: vec![], guards: vec![], source: SourceId(0) })
            .collect(),
        saves: (0..count).map(NodeId).collect(),
        sources: vec![Source::default()],
        ..Graph::default()
    }
}

fn check_shapes(table: &nnsight::module::SiteTable, values: &[nnsight::candle_core::Tensor]) {
    for (site, value) in table.sites().iter().zip(values) {
        assert_eq!(site.facts.axes.len(), value.rank(), "{}", site.path);
        for (axis, &size) in site.facts.axes.iter().zip(value.dims()) {
            let expected = match axis.name.as_ref() {
                "Batch" => Some(1),
                "Seq" | "Query" | "Key" => Some(PROMPT.len()),
                _ => axis.size,
            };
            assert_eq!(expected, Some(size), "{} of {}", axis.name, site.path);
        }
    }
}

/// Writes to every site of a model in turn, and sees which others change: exactly those that the table says can.
#[test]
fn what_the_table_says_depends_on_a_site_does() {
    use nnsight::graph::{At, Binary, InvokeId, Node, NodeId, Op, Region, SiteId, SourceId, Unary, Unused};
    let model = tiny_llama();
    let table = model.table();
    let before = model.execute(all_sites(table)).unwrap();
    let first_layer = (0..table.sites().len()).filter(|&site| table.sites()[site].path.starts_with("layers.0."));
    for edited in first_layer {
        let mut graph = all_sites(table);
        let node = |op, args| Node { op, args, guards: vec![], source: SourceId(0) };
        // Read what is there, and write its sigmoid before anything else reads it: a factor would be lost in the norms.
        let (site, invoke) = (SiteId(edited as u32), InvokeId(0));
        let mut nodes = vec![
            node(Op::Get { at: At::first(invoke), site }, vec![]),
            node(Op::Scalar(3.0), vec![]),
            match table.sites()[edited].facts.kind {
                nnsight::types::KindTag::Float => node(Op::Unary(Unary::Sigmoid), vec![NodeId(0)]),
                _ => node(Op::Binary(Binary::Mul), vec![NodeId(0), NodeId(1)]),
            },
            node(Op::Set { at: At::first(invoke), site, region: Region::default(), unused: Unused::Keep }, vec![NodeId(2)]),
        ];
        nodes.extend(graph.nodes);
        graph.nodes = nodes;
        graph.saves = graph.saves.iter().map(|save| NodeId(save.0 + 4)).collect();
        let after = model.execute(graph).unwrap();
        for other in edited + 1..table.sites().len() {
            if table.sites()[other].facts.kind != nnsight::types::KindTag::Float {
                continue;
            }
            let changed = !identical(&before[other], &after[other]);
            let (from, to) = (&table.sites()[edited].path, &table.sites()[other].path);
            if changed {
                assert!(table.reaches(edited, other), "{from} changes {to}, which the table denies");
            } else if to.starts_with("layers.0.") {
                assert!(!table.reaches(edited, other), "{from} does not change {to}");
            }
        }
    }
}

#[test]
fn the_tree_prints_every_module_with_its_sizes() {
    let text = tiny_llama().to_string();
    assert!(text.starts_with("Dynamic\n  embed_tokens: Embedding"));
    assert!(text.contains("0 … 2: DecoderLayer"), "{text}");
    assert!(text.contains(".pattern (Batch, Heads = 4, Query, Key)"), "{text}");
    assert!(text.contains("gate_proj: Linear"), "{text}");
    assert_eq!(tiny_gpt2().tree().modules.iter().filter(|module| module.path.ends_with(".attn")).count(), 3);
}
