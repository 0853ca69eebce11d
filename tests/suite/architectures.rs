//! The newer architectures as Hugging Face transformers computes them, on tiny random checkpoints: every module, prompts side by side, continued
//! generation and gradients. `tests/reference/make_architectures.py` wrote them.

use std::collections::{BTreeSet, HashMap};

use nnsight::candle_core::Tensor as Candle;
use nnsight::models::{LanguageModel, Network};
use nnsight::prelude::*;

use crate::shared::{difference, folder, tensors};

type Expected = HashMap<String, Candle>;

fn ids(tokens: &Candle) -> Vec<u32> {
    tokens.flatten_all().unwrap().to_vec1::<i64>().unwrap().iter().map(|&token| token as u32).collect()
}

/// Fails with the name of the first value that is not as expected, and marks all that are as checked.
struct Check<'a> {
    expected: &'a Expected,
    checked: BTreeSet<String>,
}

impl Check<'_> {
    fn is(&mut self, name: &str, found: &Candle, tolerance: f64) {
        let expected = self.expected.get(name).unwrap_or_else(|| panic!("{name} is not in the reference"));
        let largest = crate::shared::numbers(expected).into_iter().fold(1.0, |most: f64, number| most.max(number.abs()));
        let difference = difference(found, expected);
        assert!(difference < tolerance * largest, "{name}: {difference} of {largest}");
        self.checked.insert(name.to_string());
    }
}

fn model_type<N: Network>(_: &LanguageModel<N, Dynamic>) -> &'static str {
    N::MODEL_TYPE
}

/// What transformers calls the module of a model that has a common name.
fn in_reference<N: Network>(_: &LanguageModel<N, Dynamic>, expected: &Expected, name: &str) -> String
where
    N::Sites<'static, Dynamic>: CausalLm<'static, Dynamic>,
{
    let paths = <N::Sites<'static, Dynamic> as CausalLm<'static, Dynamic>>::PATHS;
    let path = paths.iter().find(|(common, _)| *common == name).unwrap().1;
    let path = path.strip_suffix(".output").unwrap_or(path);
    let is_there = |path: &String| expected.contains_key(path) || expected.contains_key(&format!("{path}.0"));
    [path.to_string(), format!("model.{path}")].into_iter().find(is_there).unwrap()
}

/// The module of a layer whose output has a common name.
fn module_of<N: Network>(_: &LanguageModel<N, Dynamic>, name: &str) -> &'static str
where
    N::Sites<'static, Dynamic>: CausalLm<'static, Dynamic>,
{
    let paths = <<N::Sites<'static, Dynamic> as CausalLm<'static, Dynamic>>::Block as CausalBlock<'static, Dynamic>>::PATHS;
    paths.iter().find(|(common, _)| *common == name).unwrap().1.strip_suffix(".output").unwrap()
}

macro_rules! architectures {
    ($($module:ident: $handle:ident),+) => {$(
        mod $module {
            use super::*;

            pub fn load() -> ($handle<Dynamic>, Expected) {
                let path = concat!("tests/reference/", stringify!($module));
                ($handle::load(Source::from(folder(path))).unwrap(), tensors(&format!("{path}/expected.safetensors")))
            }

            #[test]
            fn every_module_and_pattern() {
                let (model, expected) = load();
                let depth = model.depth();
                assert!(nnsight::models::ARCHITECTURES.contains(&model_type(&model)), "it is to be listed in known.rs");
                let (cache, patterns, logits) = trace!(model, ids(&expected["tokens"]), {
                    let patterns = (0..depth).map(|layer| model.block(layer).attn().pattern().value()).collect::<Vec<_>>();
                    (model.cache(&Keep::outputs()), patterns, model.logits())
                })
                .unwrap();
                let mut check = Check { expected: &expected, checked: BTreeSet::new() };
                let is_module = |name: &str| !["tokens", "logits", "pattern.", "padded.", "generated.", "masked.", "grad.", "chosen.", "weights."].iter().any(|other| name.starts_with(other));
                for name in expected.keys().filter(|name| is_module(name)) {
                    let path = format!("{}.output", name.strip_prefix("model.").unwrap_or(name));
                    check.is(name, &cache.get(&path).unwrap().whole().unwrap(), 1e-5);
                }
                patterns.iter().enumerate().for_each(|(layer, pattern)| check.is(&format!("pattern.{layer}"), pattern, 1e-5));
                check.is("logits", &logits, 1e-5);
                // What is not in the reference is not a module there: a parameter, a list.
                assert!(check.checked.len() > 10 * depth, "{:?}", check.checked);
            }

            #[test]
            fn prompts_of_different_lengths_side_by_side() {
                let (model, expected) = load();
                let prompts = [0, 1, 2].map(|row| ids(&expected[&format!("padded.{row}.tokens")]));
                let logits = trace!(model, prompts.to_vec(), { model.logits() }).unwrap();
                let [one, two, three] = &prompts;
                let apart = trace!(model, {
                    let one = invoke!(one.clone(), { model.logits() });
                    let two = invoke!(two.clone(), { model.logits() });
                    let three = invoke!(three.clone(), { model.logits() });
                    (one, two, three)
                });
                let (one, two, three) = apart.unwrap();
                let mut check = Check { expected: &expected, checked: BTreeSet::new() };
                for (row, (prompt, apart)) in prompts.iter().zip([one, two, three]).enumerate() {
                    let name = format!("padded.{row}.logits");
                    check.is(&name, &logits.padded().get(row).unwrap().narrow(0, prompts[0].len() - prompt.len(), prompt.len()).unwrap(), 1e-5);
                    check.is(&name, &apart.get(0).unwrap(), 1e-5);
                }
            }

            #[test]
            fn generation_with_a_cache() {
                let (model, expected) = load();
                let prompt = ids(&expected["tokens"]);
                let steps = expected["generated.tokens"].dims()[0];
                let (tokens, logits) = generate!(model, prompt.clone(), max_new_tokens = steps, {
                    (model.tokens(), model.steps(..).map(|step| step.logits().at(Seq, -1)))
                })
                .unwrap();
                assert_eq!(ids(&tokens), ids(&expected["generated.tokens"]));
                let logits = Candle::cat(&logits.iter().map(|logits| (**logits).clone()).collect::<Vec<_>>(), 0).unwrap();
                let mut check = Check { expected: &expected, checked: BTreeSet::new() };
                check.is("generated.logits", &logits, 1e-5);
            }

            #[test]
            fn hidden_tokens() {
                let (model, expected) = load();
                let seen = ids(&expected["masked.seen"]).into_iter().map(|seen| seen == 1).collect::<Vec<_>>();
                let prompt = Prompt::masked(&ids(&expected["masked.tokens"]), &seen);
                let steps = expected["masked.generated"].dims()[0];
                // Beside a longer prompt, so that there is padding too.
                let (tokens, logits) = generate!(model, max_new_tokens = steps, {
                    let own = invoke!(prompt, { (model.tokens(), model.steps(..).map(|step| step.logits().at(Seq, -1))) });
                    let _ = invoke!((1..14).collect::<Vec<u32>>(), { model.tokens() });
                    own
                })
                .unwrap();
                assert_eq!(ids(&tokens), ids(&expected["masked.generated"]));
                let logits = Candle::cat(&logits.iter().map(|logits| (**logits).clone()).collect::<Vec<_>>(), 0).unwrap();
                let mut check = Check { expected: &expected, checked: BTreeSet::new() };
                check.is("masked.logits", &logits, 1e-5);
            }

            #[test]
            fn half_precision_stays_close() {
                let (_, expected) = load();
                let path = folder(concat!("tests/reference/", stringify!($module)));
                for dtype in [DType::BF16, DType::F16] {
                    let model = $handle::<Dynamic>::load(Source::from(path.as_path()).dtype(dtype)).unwrap();
                    let logits = trace!(model, ids(&expected["tokens"]), { model.logits() }).unwrap();
                    assert_eq!(logits.dtype(), dtype);
                    let relative = crate::shared::relative(&logits, &expected["logits"]);
                    assert!(relative < 0.05, "{dtype:?}: {relative}");
                }
            }

            #[test]
            fn gradients_of_the_residual_stream() {
                let (model, expected) = load();
                let depth = model.depth();
                let (embed, layers, attention, mlp) = trace!(model, ids(&expected["tokens"]), {
                    let loss = model.logits().at(Seq, -1).pick(Vocab, 5).sum_all();
                    let layers = (0..depth).map(|layer| model.block(layer).resid_post().grad(loss).value()).collect::<Vec<_>>();
                    let attention = (0..depth).map(|layer| model.block(layer).attn_out().grad(loss).value()).collect::<Vec<_>>();
                    let mlp = (0..depth).map(|layer| model.block(layer).mlp_out().grad(loss).value()).collect::<Vec<_>>();
                    (model.embed().grad(loss), layers, attention, mlp)
                })
                .unwrap();
                let mut check = Check { expected: &expected, checked: BTreeSet::new() };
                let [embedding, list] = ["embed", "layers"].map(|name| in_reference(&model, &expected, name));
                check.is(&format!("grad.{embedding}"), &embed, 1e-4);
                let [attention_name, mlp_name] = ["attn_out", "mlp_out"].map(|name| module_of(&model, name));
                for layer in 0..depth {
                    check.is(&format!("grad.{list}.{layer}"), &layers[layer], 1e-4);
                    check.is(&format!("grad.{list}.{layer}.{attention_name}"), &attention[layer], 1e-4);
                    check.is(&format!("grad.{list}.{layer}.{mlp_name}"), &mlp[layer], 1e-4);
                }
            }

            #[test]
            fn other_values_of_the_configs_keys() {
                let path = folder(concat!("tests/reference/", stringify!($module)));
                let read = |file: &str| serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(path.join(file)).unwrap()).unwrap();
                let (config, cases, tokens) = (read("config.json"), read("variants.json"), ids(&load().1["tokens"]));
                for case in cases.as_array().unwrap() {
                    let mut config = config.clone();
                    for (key, value) in case["changes"].as_object().unwrap() {
                        match value {
                            serde_json::Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
                            value if value == "null" => config[key] = serde_json::Value::Null,
                            value => config[key] = value.clone(),
                        }
                    }
                    let temporary = tempfile::tempdir().unwrap();
                    std::fs::write(temporary.path().join("config.json"), config.to_string()).unwrap();
                    std::fs::copy(path.join("model.safetensors"), temporary.path().join("model.safetensors")).unwrap();
                    let model = $handle::<Dynamic>::load(Source::from(temporary.path())).unwrap_or_else(|error| panic!("{}: {error}", case["changes"]));
                    let logits = trace!(model, tokens.clone(), { model.logits().at(Seq, -1) }).unwrap();
                    let expected = case["logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap() as f32).collect::<Vec<_>>();
                    let expected = Candle::from_vec(expected, logits.dims(), &Device::Cpu).unwrap();
                    let relative = crate::shared::relative(&logits, &expected);
                    assert!(relative < 1e-4, "{}: {relative}", case["changes"]);
                }
            }

            #[test]
            fn the_names_of_transformer_lens_hold() {
                let (model, _) = load();
                let model = model.with_transformer_lens_names().unwrap();
                let (named, own) = trace!(model, vec![3, 17, 5], {
                    (model.get::<(Batch, Seq, Hidden), Float>("blocks.1.hook_attn_out"), model.block(1).attn_out())
                })
                .unwrap();
                assert!(crate::shared::identical(&named, &own));
            }

            #[test]
            fn an_optimised_run_of_many_edits_is_the_plain_one() {
                let (model, expected) = load();
                let naive = load().0.with_optimizations(Optimizations::naive());
                let prompt = ids(&expected["tokens"]);
                let (depth, width) = (model.depth(), prompt.len());
                let swept = sweep!(model, prompt.clone(), for (layer, position) in grid(0..depth, 0..width as i64) {
                    model.block(layer).resid_post().at(Seq, position) *= 0.5;
                    model.logits().at(Seq, -1)
                })
                .unwrap();
                for (layer, position) in [(0, 0), (1, 5), (2, 10), (depth - 1, 10), (0, 6)] {
                    let alone = trace!(naive, prompt.clone(), {
                        naive.block(layer).resid_post().at(Seq, position as i64) *= 0.5;
                        naive.logits().at(Seq, -1)
                    })
                    .unwrap();
                    assert!(difference(&swept.get(layer).unwrap().get(position).unwrap(), &alone) < 1e-4);
                }
            }
        }
    )+};
}

architectures!(
    gpt_neox: GptNeoX, mistral: Mistral, qwen2: Qwen2, qwen3: Qwen3, gemma2: Gemma2, gemma3: Gemma3, olmo2: Olmo2, qwen3_moe: Qwen3Moe,
    mixtral: Mixtral
);

/// Those that can be read from GGUF files.
mod gguf {
    macro_rules! files {
        ($($module:ident: $handle:ident),+) => {$(
            mod $module {
                use nnsight::prelude::*;

                use crate::shared::{difference, folder};

                #[test]
                fn a_gguf_file_with_the_names_of_llama_cpp() {
                    let path = folder(concat!("tests/reference/", stringify!($module)));
                    let temporary = tempfile::tempdir().unwrap();
                    // What llama.cpp knows and the file does not say.
                    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path.join("config.json")).unwrap()).unwrap();
                    if let Some(scalar) = config.get_mut("query_pre_attn_scalar") {
                        *scalar = 12.into();
                        config["layer_types"] = serde_json::Value::Null;
                    }
                    if config.get("use_sliding_window").is_some() {
                        config["use_sliding_window"] = false.into();
                        config["layer_types"] = serde_json::Value::Null;
                    }
                    std::fs::write(temporary.path().join("config.json"), config.to_string()).unwrap();
                    std::fs::copy(path.join("model.safetensors"), temporary.path().join("model.safetensors")).unwrap();
                    let whole = $handle::<Dynamic>::load(Source::from(temporary.path())).unwrap();
                    let gguf = $handle::<Dynamic>::load(Source::from(path.join("model.gguf").as_path())).unwrap();
                    let prompt = vec![3, 17, 5, 40, 22, 8, 60, 1];
                    let expected = trace!(whole, prompt.clone(), { whole.logits() }).unwrap();
                    let found = trace!(gguf, prompt, { gguf.logits() }).unwrap();
                    assert!(difference(&found, &expected) < 1e-4, "{}", difference(&found, &expected));
                }
            }
        )+};
    }

    files!(gpt_neox: GptNeoX, mistral: Mistral, qwen2: Qwen2, qwen3: Qwen3, gemma2: Gemma2, gemma3: Gemma3, olmo2: Olmo2);
}

#[test]
fn the_configs_of_public_checkpoints_are_taken() {
    use nnsight::models::{
        BertConfig, Config, Gemma2Config, Gemma3Config, Gpt2Config, GptNeoXConfig, LlamaConfig, MistralConfig, MixtralConfig, Olmo2Config,
        Qwen2Config, Qwen3Config, Qwen3MoeConfig,
    };
    let files = std::fs::read_dir(folder("nnsight-models/configs")).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(files.len() > 20);
    for file in files {
        let config = Config::from_json(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let taken = match config.model_type().unwrap() {
            "bert" => BertConfig::new(&config).map(drop),
            "gemma2" => Gemma2Config::new(&config).map(drop),
            "gemma3_text" => Gemma3Config::new(&config).map(drop),
            "gpt2" => Gpt2Config::new(&config).map(drop),
            "gpt_neox" => GptNeoXConfig::new(&config).map(drop),
            "llama" => LlamaConfig::new(&config).map(drop),
            "mistral" => MistralConfig::new(&config).map(drop),
            "mixtral" => MixtralConfig::new(&config).map(drop),
            "olmo2" => Olmo2Config::new(&config).map(drop),
            "qwen2" => Qwen2Config::new(&config).map(drop),
            "qwen3" => Qwen3Config::new(&config).map(drop),
            "qwen3_moe" => Qwen3MoeConfig::new(&config).map(drop),
            other => panic!("{}: {other}", file.display()),
        };
        taken.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

#[test]
fn what_a_config_asks_for_and_would_not_be_computed_is_refused() {
    use nnsight::models::{Config, Gemma3Config, Qwen2Config, Qwen3Config};
    let with = |name: &str, key: &str, value: serde_json::Value| {
        let text = std::fs::read_to_string(folder(&format!("nnsight-models/configs/{name}.json"))).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[key] = value;
        Config::from_json(&json.to_string()).unwrap()
    };
    let gemma3 = |key: &str, value| Gemma3Config::new(&with("gemma-3-270m", key, value)).map(drop).unwrap_err().to_string();
    assert!(gemma3("final_logit_softcapping", 30.into()).contains("`final_logit_softcapping` is `30`"));
    assert!(gemma3("hidden_activation", "silu".into()).contains("`hidden_activation` is `silu`"));
    assert!(gemma3("layer_types", serde_json::json!(["full_attention"])).contains("for 18 layers"));
    assert!(gemma3("rope_theta", serde_json::Value::Null).contains("it has no `rope_theta`"));
    assert!(gemma3("head_dim", serde_json::Value::Null).contains("it has no `head_dim`"));
    assert!(gemma3("use_bidirectional_attention", true.into()).contains("`use_bidirectional_attention`"));
    let qwen3 = Qwen3Config::new(&with("qwen3-0.6b", "sliding_window", 512.into())).map(drop);
    assert!(qwen3.is_ok(), "a window that is not used");
    let qwen2 = Qwen2Config::new(&with("qwen2.5-7b", "layer_types", serde_json::json!(["sliding_attention"]))).map(drop).unwrap_err().to_string();
    assert!(qwen2.contains("`layer_types`"), "{qwen2}");
    let yarn = serde_json::json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768 });
    let qwen2 = Qwen2Config::new(&with("qwen2.5-7b", "rope_scaling", yarn)).map(drop).unwrap_err().to_string();
    assert!(qwen2.contains("`rope_type` is `yarn`"), "{qwen2}");
}
