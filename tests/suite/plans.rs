//! Every optimization of the planner, alone and with the others, returns what the naive one returns.

use nnsight::plan::Budget;
use nnsight::prelude::*;
use nnsight::trace::Traceable;
use proptest::prelude::*;

use crate::shared::difference;

const PROMPTS: [&[u32]; 4] = [&[3, 17, 5, 40, 22, 8, 11], &[3, 17, 6, 40, 22, 8, 11], &[9, 2, 33, 4], &[7, 7]];

/// One prompt, or several of one length or of different lengths.
const LISTS: [&[usize]; 7] = [&[0], &[1], &[2], &[3], &[0, 1], &[3, 2, 0], &[2, 2]];

/// Each optimization by itself, and some together.
fn plans() -> Vec<(&'static str, Optimizations)> {
    let naive = Optimizations::naive();
    vec![
        ("share", Optimizations { share: true, ..naive }),
        ("share and cutoff", Optimizations { share: true, cutoff: true, ..naive }),
        ("stop", Optimizations { stop: true, ..naive }),
        ("share by position too", Optimizations { share: true, positions: true, ..naive }),
        ("lm_head", Optimizations { lm_head: true, ..naive }),
        ("cse", Optimizations { cse: true, ..naive }),
        ("batch_calls", Optimizations { batch_calls: true, ..naive }),
        ("fuse", Optimizations { fuse: true, ..naive }),
        ("a small budget", Optimizations { budget: Budget::Bytes(1), ..naive }),
        ("all, in a budget of 50 kB", Optimizations { budget: Budget::Bytes(50_000), ..Optimizations::default() }),
        ("all", Optimizations::default()),
    ]
}

/// The same tiny Llama under each plan, the naive one first.
fn models() -> &'static [(&'static str, Llama<Dynamic>)] {
    static MODELS: std::sync::OnceLock<Vec<(&'static str, Llama<Dynamic>)>> = std::sync::OnceLock::new();
    MODELS.get_or_init(|| {
        let load = |plan| Llama::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap().with_optimizations(plan);
        [("naive", Optimizations::naive())].into_iter().chain(plans()).map(|(name, plan)| (name, load(plan))).collect()
    })
}

/// What a run does: its prompts, edits (kind, layer, position, strength) and readings (kind, layer, position).
type Run = (usize, Vec<(usize, usize, i64, f64)>, Vec<(usize, usize, i64)>);

fn run() -> impl Strategy<Value = Run> {
    let edit = (0..4usize, 0..3usize, 0..2i64, -2.0..2.0f64);
    let read = (0..8usize, 0..3usize, -2..2i64);
    (0..LISTS.len(), prop::collection::vec(edit, 0..3), prop::collection::vec(read, 1..5))
}

fn graph(model: &Llama<Dynamic>, runs: &[Run], gradients: bool) -> Graph {
    graph!(model, {
        let runs = runs.iter().map(|(list, edits, reads)| {
            let prompts = LISTS[*list].iter().map(|&prompt| PROMPTS[prompt].to_vec()).collect::<Vec<_>>();
            // Of prompts of different lengths only whole sites and the ends are known.
            let differ = prompts.iter().any(|prompt| prompt.len() != prompts[0].len());
            invoke!(prompts, {
                for &(kind, layer, position, strength) in edits {
                    let block = *model.layers.layer(layer);
                    match kind {
                        _ if differ => effect(block.output).__mul_assign(strength),
                        0 => effect(block.output.at(Seq, position)).__mul_assign(strength),
                        1 => effect(block.self_attn.z.at(Heads, 1)).__add_assign(strength),
                        2 => effect(block.mlp.output.slice(Seq, position..)).__assign(strength),
                        _ => effect(block.output).__mul_assign(1.0),
                    }
                }
                let readings = reads.iter().map(|&(kind, layer, position)| {
                    let block = *model.layers.layer(layer);
                    // Twice the same, a lens, a chain, and the head at different positions.
                    match kind {
                        0 => model.lm_head.output.at(Seq, -1).norm_all(),
                        _ if differ => block.output.at(Seq, -1).norm_all(),
                        1 => block.output.norm_all() * 2.0 + block.output.norm_all(),
                        2 => model.lm_head(model.norm(block.output)).softmax(Vocab).max(Vocab).sum_all(),
                        3 => model.lm_head(block.mlp.output.at(Seq, position) * 0.5).norm_all(),
                        4 => model.lm_head.output.at(Seq, position).norm_all(),
                        7 => model.lm_head.output.slice(Seq, position.min(-1) - 1..position.min(-1)).norm_all(),
                        5 => ((block.output - block.input).exp() * 0.1 + 1.0).norm_all(),
                        _ => model.norm.output.slice(Seq, -2..).norm_all(),
                    }
                });
                let readings = readings.collect::<Vec<_>>();
                let loss = model.lm_head.output.at(Seq, -1).norm_all();
                let gradient = gradients.then(|| model.layers[1].output.grad(loss).norm_all());
                (readings, gradient)
            })
        });
        runs.collect::<Vec<_>>()
    })
    .unwrap()
}

proptest! {
    #![proptest_config(crate::shared::cases(48))]

    #[test]
    fn every_saving_gives_what_the_naive_plan_gives(runs in prop::collection::vec(run(), 1..8), gradients in any::<bool>()) {
        let (_, naive) = &models()[0];
        let graph = graph(naive, &runs, gradients);
        let expected = naive.execute(graph.clone());
        for (name, model) in &models()[1..] {
            let found = model.execute(graph.clone());
            match (&expected, found) {
                (Ok(expected), Ok(found)) => {
                    for (a, b) in expected.iter().zip(&found) {
                        let size = f64::from(a.to_scalar::<f32>().unwrap()).abs().max(1.0);
                        prop_assert!(difference(a, b) < 2e-4 * size, "{}: {} and {}", name, a, b);
                    }
                }
                (Err(expected), Err(found)) => prop_assert_eq!(expected.to_string(), found.to_string()),
                (expected, found) => prop_assert!(false, "{}: {:?} and {:?}", name, expected.is_ok(), found.is_ok()),
            }
        }
    }
}

#[test]
fn without_a_switch_more_layers_and_positions_are_run() {
    let token_layers = |plan: Optimizations, deepest: usize| {
        let model = Llama::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap().with_optimizations(plan);
        let graph = graph!(model, {
            let runs = [0.0, 2.0, 3.0, 4.0].map(|factor| {
                invoke!(PROMPTS[0].to_vec(), {
                    model.layers[0].output.at(Seq, 3) *= factor;
                    let read = *model.layers.layer(deepest);
                    (read.output.at(Seq, -1).norm_all(), model.lm_head.output.at(Seq, -1).norm_all())
                })
            });
            let (shallow, deep): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
            if deepest < 2 { shallow } else { deep }
        });
        model.explain(&graph.unwrap()).unwrap().token_layers.0
    };
    let all = Optimizations::default();
    // The prompt through two layers, and from position 3 on each of four runs, from the layer of its edit on.
    assert_eq!(token_layers(all, 1), 7 * 2 + 4 * (4 + 4));
    // Of the last layer, one position.
    assert_eq!(token_layers(Optimizations { stop: false, ..all }, 1), 7 * 2 + 1 + 4 * (4 + 4 + 1));
    assert_eq!(token_layers(Optimizations { positions: false, ..all }, 1), 7 + 4 * 2 * 7);
    assert_eq!(token_layers(Optimizations { share: false, ..all }, 1), 4 * 2 * 7);
    assert_eq!(token_layers(all, 2), 7 * 2 + 1 + 4 * (4 + 4 + 1));
    assert_eq!(token_layers(Optimizations { lm_head: false, ..all }, 2), 7 * 3 + 4 * (4 + 4 + 4));
    assert_eq!(token_layers(Optimizations::naive(), 1), 4 * 3 * 7);
}

#[test]
fn a_lens_is_one_product_and_what_is_written_twice_is_computed_once() {
    let (_, naive) = &models()[0];
    let planned = &models().last().unwrap().1;
    let graph = graph!(planned, PROMPTS[0].to_vec(), {
        let lens = planned.layers.iter().map(|layer| planned.lm_head(planned.norm(layer.output))).collect::<Vec<_>>();
        (lens, planned.layers[1].output.norm_all() + planned.layers[1].output.norm_all())
    })
    .unwrap();
    let nodes = |model: &Llama<Dynamic>| model.explain(&graph).unwrap().nodes.0;
    assert!(nodes(planned) < nodes(naive), "{} {}", nodes(planned), nodes(naive));
    for (a, b) in planned.execute(graph.clone()).unwrap().iter().zip(naive.execute(graph).unwrap()) {
        assert!(difference(a, &b) < 1e-4);
    }
}

#[test]
fn the_head_runs_for_the_last_positions_that_hold_what_is_read() {
    let (_, naive) = &models()[0];
    let planned = &models().last().unwrap().1;
    let heads = |positions: [i64; 2], what: &str| {
        // Prompts of 7 and of 4 tokens: a position is counted from the end of its own.
        let graph = graph!(planned, {
            let long = invoke!(PROMPTS[0].to_vec(), { planned.lm_head.output.at(Seq, positions[0]) });
            let short = invoke!(PROMPTS[2].to_vec(), { planned.norm.output.slice(Seq, positions[1]..).norm_all() });
            (long, short)
        })
        .unwrap();
        let explanation = planned.explain(&graph).unwrap().to_string();
        assert_eq!(explanation.contains("the head for"), !what.is_empty(), "{explanation}");
        assert!(explanation.contains(what), "{explanation}");
        for (a, b) in planned.execute(graph.clone()).unwrap().iter().zip(naive.execute(graph).unwrap()) {
            assert!(difference(a, &b) < 1e-4);
        }
    };
    heads([-1, -1], "the head for the last position only");
    heads([5, -1], "the head for the last 2 positions only");
    heads([4, 0], "the head for the last 4 positions only");
    heads([0, 3], "the head for the last 7 positions only");
}

#[test]
fn the_head_runs_for_no_position_behind_those_that_are_read() {
    let (naive, planned) = (&models()[0].1, &models().last().unwrap().1);
    let heads = |lists: [usize; 2], what: &str| {
        let graph = graph!(planned, {
            let [a, b] = lists.map(|list| {
                let prompts = LISTS[list].iter().map(|&prompt| PROMPTS[prompt].to_vec()).collect::<Vec<_>>();
                invoke!(prompts, {
                    (planned.lm_head.output.slice(Seq, -4..-2), planned.norm.output.at(Seq, -4).norm_all(), planned.layers[1].output.at(Seq, -1))
                })
            });
            // Branches off, and reads what the others do; and one that stays what it branched off from.
            let edited = [0.5, 1.0].map(|factor| {
                invoke!(PROMPTS[0].to_vec(), {
                    planned.layers[1].output.at(Seq, 3) *= factor;
                    planned.lm_head.output.at(Seq, 3)
                })
            });
            (a, b, edited)
        })
        .unwrap();
        let explanation = planned.explain(&graph).unwrap().to_string();
        assert!(explanation.contains(what), "{explanation}");
        for (a, b) in planned.execute(graph.clone()).unwrap().iter().zip(naive.execute(graph).unwrap()) {
            assert!(difference(a, &b) < 1e-4);
        }
    };
    heads([0, 2], "the head for positions -4 to -3 only");
    heads([4, 6], "the head for positions -4 to -3 only");
    let one = graph!(planned, PROMPTS[0].to_vec(), { planned.lm_head.output.at(Seq, 2) }).unwrap();
    assert!(planned.explain(&one).unwrap().to_string().contains("the head for position -5 only"));
    assert_eq!(planned.explain(&one).unwrap().token_layers.0, 7 * 2 + 1);
    assert!(difference(&planned.execute(one.clone()).unwrap()[0], &naive.execute(one).unwrap()[0]) < 1e-4);
    // What goes on needs the last position too.
    let continued = |model: &Llama<Dynamic>| {
        generate!(model, PROMPTS[0].to_vec(), max_new_tokens = 3, { (model.prompt().lm_head.output.at(Seq, 2), model.tokens()) }).unwrap()
    };
    let (found, expected) = (continued(planned), continued(naive));
    assert!(difference(&found.0, &expected.0) < 1e-4 && difference(&found.1, &expected.1) == 0.0);
}

#[test]
fn a_chain_of_operations_is_one_pass() {
    let (_, naive) = &models()[0];
    let planned = &models().last().unwrap().1;
    let graph = graph!(planned, PROMPTS[0].to_vec(), {
        let (before, behind) = (planned.layers[1].input.value(), planned.layers[1].output.value());
        // Three operations are computed with the next; the fourth is used twice, and the last is given back.
        let scaled = ((behind - before) * 0.5).exp() * before;
        (scaled + behind, scaled.sum(Hidden))
    })
    .unwrap();
    let chained = |model: &Llama<Dynamic>| model.explain(&graph).unwrap().fused;
    assert_eq!((chained(planned), chained(naive)), (3, 0));
    assert!(planned.explain(&graph).unwrap().to_string().contains("3 of them in one pass with the next"));
    for (a, b) in planned.execute(graph.clone()).unwrap().iter().zip(naive.execute(graph).unwrap()) {
        assert!(difference(a, &b) < 1e-6);
    }
}

#[test]
fn a_sweep_over_prompts_of_different_lengths_has_batches_of_about_one_length() {
    let prompts = [3, 60, 4, 64, 2].map(|length| (0..length).collect::<Vec<u32>>());
    let planned = Llama::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap();
    let planned = planned.with_optimizations(Optimizations { budget: Budget::Bytes(2_000_000), ..Optimizations::default() });
    let graph = graph!(planned, {
        let points = prompts.iter().flat_map(|prompt| (0..3).map(move |layer| (prompt, layer)));
        let runs = points.map(|(prompt, layer)| {
            invoke!(prompt, {
                planned.layers[layer].output *= 0.5;
                planned.lm_head.output.at(Seq, -1).norm_all()
            })
        });
        runs.collect::<Vec<_>>()
    })
    .unwrap();
    let explanation = planned.explain(&graph).unwrap();
    let once = explanation.batches.iter().filter(|batch| batch.what.contains("once")).map(|batch| batch.what.as_str()).collect::<Vec<_>>();
    assert!(matches!(once[..], [short, long] if short.contains("3 different prompts") && long.contains("2 different")), "{explanation}");
}

#[test]
fn prompts_of_different_lengths_are_grouped_and_large_batches_split() {
    let planned = &models().iter().find(|(name, _)| *name == "a small budget").unwrap().1;
    let graph = graph!(planned, {
        let all = (0..6).map(|index| invoke!(PROMPTS[index % 4].to_vec(), { planned.layers[2].output.norm_all() }));
        all.collect::<Vec<_>>()
    })
    .unwrap();
    let explanation = planned.explain(&graph).unwrap();
    assert_eq!(explanation.batches.len(), 6, "{explanation}");
    let one = models()[0].1.explain(&graph).unwrap();
    assert_eq!(one.batches.len(), 1, "{one}");
}
