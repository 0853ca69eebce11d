//! Runs on equal prompts share what they have in common, and give what each gives alone.

use nnsight::prelude::*;
use proptest::prelude::*;

use crate::shared::{difference, numbers, tiny_gpt2, tiny_llama};

const PROMPTS: [&[u32]; 3] = [&[3, 17, 5, 40, 22, 8, 11], &[3, 17, 6, 40, 22, 8, 11], &[9, 2, 33, 4]];

/// One prompt, or several of one length; the last list has different lengths.
fn prompts(list: usize) -> Vec<Vec<u32>> {
    let list: &[usize] = [&[0][..], &[1], &[2], &[0, 1], &[2, 2], &[1, 0, 1], &[2, 0]][list];
    list.iter().map(|&prompt| PROMPTS[prompt].to_vec()).collect()
}

#[derive(Clone, Debug)]
struct Run {
    prompts: usize,
    edits: Vec<Edit>,
    reads: Vec<(usize, usize, i64)>,
}

/// What is done where: kind, layer, position, strength.
type Edit = (usize, usize, i64, f64);

fn run() -> impl Strategy<Value = Run> {
    let edit = (0..6usize, 0..3usize, 0..4i64, -2.0..2.0f64);
    let read = (0..6usize, 0..3usize, -4..4i64);
    (0..6usize, prop::collection::vec(edit, 0..3), prop::collection::vec(read, 1..4)).prop_map(|(prompts, edits, reads)| Run {
        prompts,
        edits,
        reads,
    })
}

/// What is saved of one run: tensors of different shapes, as their norms along the last axis.
macro_rules! record {
    ($model:ident, $run:expr, $layers:ident $(. $rest:ident)*, $attention:ident) => {{
        for &(kind, layer, position, strength) in &$run.edits {
            let block = *$model.$layers$(.$rest)*.layer(layer);
            match kind {
                0 => effect(block.output.at(Seq, position)).__mul_assign(strength),
                1 => effect(block.mlp.output.slice(Seq, position..)).__assign(strength),
                2 => effect(block.$attention.z.at(Seq, -1).at(Heads, 1)).__add_assign(strength),
                3 => effect(block.resid_mid.slice(Seq, position..position + 1).slice(Hidden, 3..9)).__add_assign(strength),
                4 => effect(block.input).__mul_assign(strength),
                _ => effect(block.$attention.pattern.head(2)).__mul_assign(strength),
            }
        }
        let reads = $run.reads.iter().map(|&(kind, layer, position)| {
            let block = *$model.$layers$(.$rest)*.layer(layer);
            match kind {
                0 => $model.lm_head.output.at(Seq, -1).norm(Vocab).sum_all(),
                1 => block.output.at(Seq, position).norm(Hidden).sum_all(),
                2 => block.mlp.output.norm_all(),
                3 => block.$attention.pattern.at(Query, position).norm_all(),
                4 => block.resid_mid.slice(Seq, -2..).norm_all(),
                _ => $model.lm_head.output.sum_all(),
            }
        });
        reads.collect::<Vec<_>>()
    }};
}

fn check(together: &[Vec<Tensor<Dynamic, ()>>], alone: impl Fn(usize) -> Vec<Tensor<Dynamic, ()>>) -> Result<(), TestCaseError> {
    for (index, together) in together.iter().enumerate() {
        for (a, b) in together.iter().zip(alone(index)) {
            let size = f64::from(b.to_scalar::<f32>().unwrap()).abs().max(1.0);
            let difference = difference(a, &b);
            prop_assert!(difference < 1e-4 * size, "run {}: {} of {}", index, difference, size);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::shared::cases(96))]

    #[test]
    fn llamas_together_give_what_each_gives_alone(runs in prop::collection::vec(run(), 1..12)) {
        let model = tiny_llama();
        let together = trace!(model, {
            runs.iter().map(|run| invoke!(prompts(run.prompts), { record!(model, run, layers, self_attn) })).collect::<Vec<_>>()
        })
        .unwrap();
        let alone = |index: usize| {
            let run = &runs[index];
            trace!(model, prompts(run.prompts), { record!(model, run, layers, self_attn) }).unwrap()
        };
        check(&together, alone)?;
    }

    #[test]
    fn gpt2s_together_give_what_each_gives_alone(runs in prop::collection::vec(run(), 1..12)) {
        let model = tiny_gpt2();
        let together = trace!(model, {
            runs.iter().map(|run| invoke!(prompts(run.prompts), { record!(model, run, transformer.h, attn) })).collect::<Vec<_>>()
        })
        .unwrap();
        let alone = |index: usize| {
            let run = &runs[index];
            trace!(model, prompts(run.prompts), { record!(model, run, transformer.h, attn) }).unwrap()
        };
        check(&together, alone)?;
    }
}

/// The tiny Llama, every trace run as it is written.
fn naive_llama() -> &'static Llama<Dynamic> {
    static MODEL: std::sync::OnceLock<Llama<Dynamic>> = std::sync::OnceLock::new();
    MODEL
        .get_or_init(|| Llama::load(Source::from(crate::shared::folder("tests/reference/llama"))).unwrap().with_optimizations(Optimizations::naive()))
}

proptest! {
    #![proptest_config(crate::shared::cases(64))]

    /// Patches from a prompt that has its first tokens in common with the other: many of them change nothing.
    #[test]
    fn patches_that_change_nothing_give_what_they_give_alone(
        patches in prop::collection::vec((0..4usize, 0..3usize, 0..7i64, 0..4usize), 1..16),
        differs in 0..7usize,
    ) {
        let clean = PROMPTS[0].to_vec();
        let mut corrupted = clean.clone();
        corrupted[differs] = 61;
        let graph = |model: &Llama<Dynamic>| {
            graph!(model, {
                let clean = invoke!(clean.clone(), {
                    model.layers.iter().map(|layer| [layer.output.value(), layer.mlp.output.value(), layer.resid_mid.value()]).collect::<Vec<_>>()
                });
                let patches = patches.iter().map(|&(kind, layer, position, read)| {
                    invoke!(corrupted.clone(), {
                        let block = *model.layers.layer(layer);
                        match kind {
                            0 => effect(block.output.at(Seq, position)).__assign(clean[layer][0].at(Seq, position)),
                            1 => effect(block.mlp.output.at(Seq, position)).__assign(clean[layer][1].at(Seq, position)),
                            2 => effect(block.resid_mid.slice(Seq, position..)).__assign(clean[layer][2].slice(Seq, position..)),
                            _ => effect(block.output).__assign(clean[layer][0]),
                        }
                        match read {
                            0 => model.lm_head.output.at(Seq, -1).norm_all(),
                            1 => model.lm_head.output.norm_all(),
                            2 => model.layers[2].output.at(Seq, position).norm_all(),
                            _ => model.layers[2].self_attn.pattern.norm_all() + model.layers[0].input.norm_all(),
                        }
                    })
                });
                patches.collect::<Vec<_>>()
            })
            .unwrap()
        };
        use nnsight::trace::Traceable;
        let (planned, naive) = (tiny_llama().execute(graph(tiny_llama())).unwrap(), naive_llama().execute(graph(naive_llama())).unwrap());
        for (planned, naive) in planned.iter().zip(&naive) {
            let size = f64::from(naive.to_scalar::<f32>().unwrap()).abs().max(1.0);
            prop_assert!(difference(planned, naive) < 1e-4 * size);
        }
    }
}

#[test]
fn runs_on_the_same_several_prompts_share_them() {
    use nnsight::trace::Traceable;
    let (naive, model) = (naive_llama(), tiny_llama());
    // Of one length, and so shared by position too; of different lengths, by layer only.
    for (lists, token_layers) in [(3, 2 * (7 * 2 + 1) + 3 * 2 * (1 + 1)), (6, (4 + 7) * 2 + 3 * (4 + 7 + 2))] {
        let graph = graph!(model, {
            let run = |factor: f64| {
                invoke!(prompts(lists), {
                    model.layers[1].output.at(Seq, -1) *= factor;
                    model.lm_head.output.at(Seq, -1)
                })
            };
            [run(0.0), run(1.0), run(-1.0)]
        })
        .unwrap();
        let explanation = model.explain(&graph).unwrap();
        assert!(explanation.to_string().contains("2 different prompts of 3 runs, once"), "{explanation}");
        assert_eq!(explanation.token_layers.0, token_layers, "{explanation}");
        for (planned, naive) in model.execute(graph.clone()).unwrap().iter().zip(naive.execute(graph).unwrap()) {
            assert!(difference(planned, &naive) < 1e-5);
        }
    }
}

#[test]
fn a_patch_that_changes_nothing_is_not_run_again() {
    let model = tiny_llama();
    let (clean, corrupted) = (PROMPTS[0].to_vec(), PROMPTS[1].to_vec());
    let (untouched, patched) = trace!(model, {
        let clean = invoke!(clean, { model.layers[1].output.value() });
        let untouched = invoke!(corrupted.clone(), { model.lm_head.output.at(Seq, -1) });
        let patched = (0..7).map(|position| {
            invoke!(corrupted.clone(), {
                effect(model.layers[1].output.at(Seq, position)) = clean.at(Seq, position);
                model.lm_head.output.at(Seq, -1)
            })
        });
        (untouched, patched.collect::<Vec<_>>())
    })
    .unwrap();
    // The prompts differ at position 2 only: before it, the result is the untouched one, bit for bit.
    assert!(patched[..2].iter().all(|patched| crate::shared::identical(patched, &untouched)));
    assert!(patched[2..].iter().all(|patched| difference(patched, &untouched) > 1e-5));
}

#[test]
fn most_patches_between_prompts_with_a_common_start_change_nothing() {
    let model = crate::shared::smollm2();
    let clean = trace!(model, crate::shared::CLEAN, { model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>() }).unwrap();
    let untouched = trace!(model, crate::shared::CORRUPTED, { model.lm_head.output.at(Seq, -1).norm_all() }).unwrap();
    let grid = sweep!(
        model,
        crate::shared::CORRUPTED,
        for (layer, position) in grid(0..30, 0..14) {
            model.layers[layer].output.at(Seq, position) = clean[layer].at(Seq, position);
            model.lm_head.output.at(Seq, -1).norm_all()
        }
    );
    let (untouched, grid) = (numbers(&untouched)[0], numbers(&grid.unwrap()));
    // At 9 of 14 positions there is nothing to change; in the last layer, what the last position does not see.
    assert_eq!(grid.iter().filter(|point| **point == untouched).count(), 30 * 9 + 4);
}

#[test]
#[allow(clippy::needless_range_loop)]
fn values_cross_from_the_base_into_branches_and_between_prompts() {
    let model = tiny_llama();
    let (clean, corrupted) = (PROMPTS[0].to_vec(), PROMPTS[1].to_vec());
    let grid = trace!(model, {
        let clean = invoke!(clean.clone(), { model.layers.iter().map(|layer| layer.output.value()).collect::<Vec<_>>() });
        let mut grid = Vec::new();
        for layer in 0..3 {
            for position in 0..7 {
                grid.push(invoke!(corrupted.clone(), {
                    effect(model.layers[layer].output.at(Seq, position)) = clean[layer].at(Seq, position);
                    model.lm_head.output.at(Seq, -1)
                }));
            }
        }
        grid
    })
    .unwrap();
    let saved = trace!(model, clean, { model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>() }).unwrap();
    for (index, found) in grid.iter().enumerate() {
        let (layer, position) = (index / 7, index % 7);
        let alone = trace!(model, corrupted.clone(), {
            effect(model.layers[layer].output.at(Seq, position)) = saved[layer].at(Seq, position as i64);
            model.lm_head.output.at(Seq, -1)
        });
        assert!(difference(found, &alone.unwrap()) < 1e-5, "layer {layer}, position {position}");
    }
}

#[test]
fn a_run_that_waits_for_another_is_not_torn_from_it() {
    let model = tiny_llama();
    let prompt = PROMPTS[0].to_vec();
    // Each takes from the one before what that holds only after its own edit.
    let (second, third) = trace!(model, {
        let first = invoke!(prompt.clone(), {
            model.layers[0].output.at(Seq, 2) = 0.5;
            model.layers[1].resid_mid.value()
        });
        let second = invoke!(prompt.clone(), {
            model.layers[1].resid_mid = first;
            model.layers[1].output.value()
        });
        let third = invoke!(prompt.clone(), {
            model.layers[2].input = second;
            model.lm_head.output.at(Seq, -1)
        });
        (second, third)
    })
    .unwrap();
    let alone = trace!(model, prompt, {
        model.layers[0].output.at(Seq, 2) = 0.5;
        (model.layers[1].output, model.lm_head.output.at(Seq, -1))
    })
    .unwrap();
    assert!(difference(&second, &alone.0) < 1e-5 && difference(&third, &alone.1) < 1e-5);
}

#[test]
#[allow(clippy::needless_range_loop)]
fn a_grid_is_explained_and_can_be_run_as_it_is_written() {
    use nnsight::trace::Traceable;
    let model = crate::shared::smollm2();
    let grid = |first: &str, second: &str| {
        graph!(model, {
            let clean = invoke!(first, { model.layers.iter().map(|layer| layer.output.value()).collect::<Vec<_>>() });
            let mut grid = Vec::new();
            for layer in 0..30 {
                for position in 0..14 {
                    grid.push(invoke!(second, {
                        effect(model.layers[layer].output.at(Seq, position)) = clean[layer].at(Seq, position);
                        model.lm_head.output.at(Seq, -1).norm_all()
                    }));
                }
            }
            grid
        })
        .unwrap()
    };
    let explanation = model.explain(&grid(crate::shared::CLEAN, crate::shared::CORRUPTED)).unwrap();
    // Both prompts once; and of each layer and position what comes after: 465 layers of 105 positions. Of the last layer the last position is
    // enough, but for the patches within it and for what the clean prompt gives to them.
    assert_eq!(explanation.token_layers, (2 * 14 * 30 + 465 * 105 - 29 * (105 - 14), 421 * 14 * 30));
    let picture = explanation.to_svg();
    assert!(picture.starts_with("<svg") && picture.matches("#7bc47f").count() > 300 && picture.contains("of 176820 token-layers"), "{picture}");
    let text = explanation.to_string();
    assert!(text.contains("2 different prompts of 421 runs, once, through 30 layers"), "{text}");
    assert!(
        text.contains("29 runs branch off 0 at position 13, the first at layer 0, the last at layer 28; the head for the last position only"),
        "{text}"
    );

    let (naive, model) = (naive_llama(), tiny_llama());
    let graph = graph!(model, {
        let run = |factor: f64| {
            invoke!(PROMPTS[0].to_vec(), {
                model.layers[1].output.at(Seq, 3) *= factor;
                model.lm_head.output.at(Seq, -1)
            })
        };
        [run(0.0), run(1.0), run(-1.0)]
    })
    .unwrap();
    assert_eq!(naive.explain(&graph).unwrap().token_layers, (3 * 7 * 3, 3 * 7 * 3));
    assert_eq!(model.explain(&graph).unwrap().token_layers, (7 * 2 + 1 + 3 * (4 + 1), 3 * 7 * 3));
    for (planned, naive) in model.execute(graph.clone()).unwrap().iter().zip(naive.execute(graph).unwrap()) {
        assert!(difference(planned, &naive) < 1e-5);
    }
}
