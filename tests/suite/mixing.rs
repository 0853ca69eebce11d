//! How a model mixes positions is what its taps say. On a model whose positions see each other in both directions, an edit at a later position is
//! seen at an earlier one, and nothing that is right is refused; runs on one prompt then share layers, and no positions.

use nnsight::prelude::*;
use proptest::prelude::*;

use crate::shared::{difference, folder};

/// A model of three layers with one head each: `x + o(softmax(x k(x)ᵀ) x)`. The weights are some of those of the reference Llama.
macro_rules! toy {
    ($name:ident, $mixes:ident $(($size:literal))?, $may_look:expr) => {
        mod $name {
            use candle_core::{Device, Tensor};
            use nnsight::Module;
            use nnsight::models::layers::{Embedding, Linear};
            use nnsight::models::{Config, Decoder, LanguageModel, Loader, Network, Weights};
            use nnsight::module::{Cx, Forward, Instrument, Place};
            use nnsight::prelude::{Batch, Dynamic, Hidden, Key, Query, Seq, Vocab};
            use nnsight::run::{AnyBatch as _, KvCache, TokenBatch};

            pub type Toy = LanguageModel<Network3, Dynamic>;

            #[derive(Module)]
            #[module(sites = Model, config = ())]
            pub struct Network3 {
                #[child(name = "model.embed_tokens")]
                embed_tokens: Embedding<Dynamic, Vocab, Hidden>,
                #[child(name = "model.layers")]
                layers: Vec<Layer>,
                #[child(pointwise)]
                lm_head: Linear<Dynamic, Hidden, Vocab>,
                place: Place,
            }

            #[derive(Module)]
            #[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden), config = ())]
            pub struct Layer {
                #[child(pointwise, from(input), name = "self_attn.q_proj")]
                k_proj: Linear<Dynamic, Hidden, Hidden>,
                #[tap(pattern: (Batch, Query, Key), from(input, k_proj))]
                #[tap(z: (Batch, Seq, Hidden), from(pattern, input), mixes($mixes $(($size))?))]
                #[child(pointwise, from(z), name = "self_attn.o_proj")]
                o_proj: Linear<Dynamic, Hidden, Hidden>,
                place: Place,
            }

            /// Minus infinity where a position may not look.
            fn mask(batch: &TokenBatch, device: &Device) -> candle_core::Result<Tensor> {
                let may_look: fn(usize, usize) -> bool = $may_look;
                let (rows, past, keys) = (batch.lengths().len(), batch.past(), batch.past() + batch.width());
                let mut entries = Vec::new();
                for length in batch.lengths() {
                    let padding = keys - length;
                    for query in past..keys {
                        let sees = |key: usize| key == query || key >= padding && query >= padding && may_look(query, key);
                        entries.extend((0..keys).map(|key| if sees(key) { 0f32 } else { f32::MIN }));
                    }
                }
                Tensor::from_vec(entries, (rows, batch.width(), keys), device)
            }

            impl Forward for Layer {
                fn forward(&self, x: &Tensor, cx: &mut Cx) -> nnsight_core::Result<Tensor> {
                    let k = cx.call(&self.k_proj, x)?;
                    let (keys, values) = KvCache::extend(cx, k.unsqueeze(1)?, x.unsqueeze(1)?)?;
                    let (keys, values) = (keys.squeeze(1)?, values.squeeze(1)?);
                    let scores = (x.matmul(&keys.t()?.contiguous()?)? + mask(cx.batch::<TokenBatch>()?, x.device())?)?;
                    let pattern = cx.tap(Self::PATTERN, nnsight::kernels::softmax(&scores)?)?;
                    let z = cx.tap(Self::Z, pattern.contiguous()?.matmul(&values.contiguous()?)?)?;
                    Ok((x + cx.call(&self.o_proj, &z)?)?)
                }
            }

            impl Decoder for Network3 {
                type Layer = Layer;
                fn embed(&self, tokens: &Tensor, cx: &mut Cx) -> nnsight_core::Result<Tensor> {
                    cx.call(&self.embed_tokens, tokens)
                }
                fn layers(&self) -> &[Layer] {
                    &self.layers
                }
                fn after_layers(&self) -> Place {
                    self.lm_head.place()
                }
                fn logits(&self, x: &Tensor, cx: &mut Cx) -> nnsight_core::Result<Tensor> {
                    cx.call(&self.lm_head, x)
                }
            }

            impl Network for Network3 {
                const MODEL_TYPE: &'static str = "llama";
                fn build(config: &Config, weights: &mut Weights) -> nnsight::models::Result<Self> {
                    Loader::read(weights, &(), &config.sizes()?)
                }
            }

            pub fn load() -> Toy {
                let unused = ["input_layernorm", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
                let of_attention = ["k_proj.weight", "v_proj.weight", "q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"];
                let names = (0..3).flat_map(|layer| {
                    let weights = unused.iter().map(move |name| format!("model.layers.{layer}.{name}.weight"));
                    weights.chain(of_attention.iter().map(move |name| format!("model.layers.{layer}.self_attn.{name}")))
                });
                let source = nnsight::models::Source::from(super::folder("tests/reference/llama"));
                Toy::load(source.ignoring(names.chain(["model.norm.weight".to_string()]))).unwrap()
            }
        }
    };
}
toy!(causal, causal, |query, key| key <= query);
toy!(windowed, window(2), |query, key| key <= query && key + 2 > query);
toy!(bidirectional, all, |_, _| true);

const PROMPT: [u32; 6] = [3, 17, 5, 40, 22, 8];

#[test]
fn a_later_position_is_seen_at_an_earlier_one_if_the_model_looks_there() {
    let model = bidirectional::load();
    let (before, after) = trace!(model, {
        let before = invoke!(PROMPT.to_vec(), { model.layers[2].output.at(Seq, 1) });
        let after = invoke!(PROMPT.to_vec(), {
            model.layers[0].output.at(Seq, 5) = 0.0;
            model.layers[2].output.at(Seq, 1)
        });
        (before, after)
    })
    .unwrap();
    assert!(difference(&before, &after) > 1e-3);
    let naive = bidirectional::load().with_optimizations(Optimizations::naive());
    let alone = trace!(naive, PROMPT.to_vec(), {
        naive.layers[0].output.at(Seq, 5) = 0.0;
        naive.layers[2].output.at(Seq, 1)
    });
    assert!(difference(&after, &alone.unwrap()) < 1e-6);
    // Under a causal mask nothing that is saved depends on it.
    let model = causal::load();
    let error = trace!(model, PROMPT.to_vec(), {
        model.layers[0].output.at(Seq, 5) = 0.0;
        model.layers[2].output.at(Seq, 1)
    })
    .unwrap_err();
    assert!(error.to_string().contains("it writes position 5, and of `layers.2.output` position 1 is read"), "{error}");
}

#[test]
fn an_edit_outside_of_the_window_is_refused_and_one_inside_is_seen() {
    let model = windowed::load();
    // Two layers with a window of two see three positions.
    let seen = trace!(model, PROMPT.to_vec(), {
        model.layers[0].output.at(Seq, 1) += 1.0;
        model.layers[2].output.at(Seq, 3)
    });
    let plain = trace!(model, PROMPT.to_vec(), { model.layers[2].output.at(Seq, 3) }).unwrap();
    assert!(difference(&seen.unwrap(), &plain) > 1e-4);
    let error = trace!(model, PROMPT.to_vec(), {
        model.layers[0].output.at(Seq, 1) = 0.0;
        model.layers[2].output.at(Seq, 4)
    });
    assert!(error.unwrap_err().to_string().contains("it writes position 1, and of `layers.2.output` position 4 is read"));
}

#[test]
fn runs_share_positions_only_where_no_later_one_is_seen() {
    macro_rules! layers {
        ($model:expr) => {{
            let model = $model;
            let graph = graph!(model, {
                let base = invoke!(PROMPT.to_vec(), { model.lm_head.output.at(Seq, -1) });
                let edited = invoke!(PROMPT.to_vec(), {
                    model.layers[1].output.at(Seq, 5) *= 2.0;
                    model.lm_head.output.at(Seq, -1)
                });
                (base, edited)
            });
            model.explain(&graph.unwrap()).unwrap().token_layers.0
        }};
    }
    // Two layers of six positions and the last position of the third; the edited run has one position of the last two layers, or all of them.
    let [causal, windowed, bidirectional] = [layers!(causal::load()), layers!(windowed::load()), layers!(bidirectional::load())];
    assert_eq!([causal, windowed, bidirectional], [15, 15, 20]);
}

mod own {
    use candle_core::{Device, Tensor};
    use nnsight::Module;
    use nnsight::models::layers::Linear;
    use nnsight::module::{Cx, Forward, Place};
    use nnsight::prelude::{Batch, Dynamic, Hidden, Seq};

    nnsight::dim!(pub Key = 5);

    /// To features that somebody called `Key`.
    #[derive(Module)]
    #[module(input: (Batch, Seq, Hidden), output: (Batch, Seq, Key))]
    pub struct Features {
        #[child(pointwise)]
        to_keys: Linear<Dynamic, Hidden, Key>,
        place: Place,
    }

    impl Features {
        pub fn new() -> Self {
            let weight = Tensor::ones((32, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
            Features { to_keys: Linear::new(weight, None), place: Place::default() }
        }
    }

    impl Forward for Features {
        fn forward(&self, x: &Tensor, cx: &mut Cx) -> nnsight_core::Result<Tensor> {
            cx.call(&self.to_keys, x)
        }
    }
}

#[test]
fn a_dimension_of_the_users_is_a_plain_one_whatever_it_is_called() {
    assert_eq!(<own::Key as nnsight::types::DimName>::ROLE, nnsight::graph::AxisRole::Plain);
    let model = bidirectional::load();
    let model = model.attach("features", nnsight::module::Role::Probe("layers.1.output"), own::Features::new()).unwrap();
    // Prompts of different lengths: as positions, the entries of `Key` would be another number for each, and padded.
    let (short, long) = trace!(model, {
        let short = invoke!(vec![3, 17], { (model.attached.output, model.layers[1].output) });
        let long = invoke!(PROMPT.to_vec(), { (model.attached.output, model.layers[1].output) });
        (short, long)
    })
    .unwrap();
    for ((features, stream), length) in [(short, 2), (long, 6)] {
        assert_eq!(features.dims(), [1, length, 5]);
        let sums = stream.sum_keepdim(Hidden).unwrap().broadcast_as((1, length, 5)).unwrap();
        assert!(difference(&features, &sums) < 1e-4);
    }
}

/// What is done where: kind, layer, position, strength; and what is read: layer, position.
type Run = (Vec<(usize, usize, i64, f64)>, Vec<(usize, i64)>);

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let edits = prop::collection::vec((0..3usize, 0..3usize, -4..4i64, -2.0..2.0f64), 0..3);
    let reads = prop::collection::vec((0..4usize, -4..4i64), 1..3);
    prop::collection::vec((edits, reads), 1..7)
}

macro_rules! together_and_alone {
    ($($test:ident $model:ident),+) => {
        proptest! {
            #![proptest_config(crate::shared::cases(64))]
            $(
                #[test]
                fn $test(runs in runs(), prompts in prop::collection::vec(0..3usize, 7)) {
                    thread_local!(static MODELS: (&'static $model::Toy, &'static $model::Toy) = (
                        Box::leak(Box::new($model::load())),
                        Box::leak(Box::new($model::load().with_optimizations(Optimizations::naive()))),
                    ));
                    let (planned, naive) = MODELS.with(|models| *models);
                    let prompts = prompts.iter().map(|&prompt| vec![PROMPT.to_vec(), vec![9, 2, 33, 4], vec![3, 17, 5, 41, 22, 8, 1]][prompt].clone()).collect::<Vec<_>>();
                    macro_rules! record {
                        ($traced:ident, $run:expr) => {{
                            for &(kind, layer, position, strength) in &$run.0 {
                                let block = *$traced.layers.layer(layer);
                                match kind {
                                    0 => effect(block.output.at(Seq, position)).__mul_assign(strength),
                                    1 => effect(block.z.slice(Seq, position..)).__add_assign(strength),
                                    _ => effect(block.input).__mul_assign(strength),
                                }
                            }
                            let reads = $run.1.iter().map(|&(layer, position)| match layer {
                                3 => $traced.lm_head.output.at(Seq, position).norm(Vocab).sum_all(),
                                layer => $traced.layers.layer(layer).output.at(Seq, position).norm(Hidden).sum_all(),
                            });
                            reads.collect::<Vec<_>>()
                        }};
                    }
                    // What one of them refuses by itself, all of them refuse together.
                    let alone = runs.iter().zip(&prompts).map(|(run, prompt)| trace!(naive, prompt.clone(), { record!(naive, run) })).collect::<Vec<_>>();
                    let together = trace!(planned, {
                        let mut found = Vec::new();
                        for (run, prompt) in runs.iter().zip(&prompts) {
                            found.push(invoke!(prompt.clone(), { record!(planned, run) }));
                        }
                        found
                    });
                    match together {
                        Err(_) => prop_assert!(alone.iter().any(Result::is_err)),
                        Ok(together) => {
                            for (together, alone) in together.iter().zip(alone) {
                                for (a, b) in together.iter().zip(alone.unwrap()) {
                                    prop_assert!(difference(a, &b) < 1e-4 * f64::from(b.to_scalar::<f32>().unwrap()).abs().max(1.0));
                                }
                            }
                        }
                    }
                }
            )+
        }
    };
}
together_and_alone!(
    causal_models_together_give_what_each_gives_alone causal,
    windowed_models_together_give_what_each_gives_alone windowed,
    bidirectional_models_together_give_what_each_gives_alone bidirectional
);
