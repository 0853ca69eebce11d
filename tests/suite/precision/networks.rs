//! A Llama and a GPT-2 with weights by a formula, on 1,200 tokens: what their modules give, and the gradients of a loss.

use std::collections::HashMap;
use std::path::Path;

use nnsight::candle_core::{Tensor as Candle, safetensors};
use nnsight::prelude::*;
use serde_json::json;

use super::data::{indices, normal};
use super::{Errors, error};

const LENGTH: usize = 1200;
const VOCAB: usize = 256;
const HIDDEN: usize = 64;
const MLP: usize = 160;
const LAYERS: usize = 2;

/// Writes a checkpoint whose weights a type holds exactly.
fn write(folder: &Path, config: &serde_json::Value, mut shapes: Vec<(String, Vec<usize>)>, dtype: DType) {
    shapes.sort();
    let mut weights = HashMap::new();
    for (index, (name, shape)) in shapes.into_iter().enumerate() {
        let is_scale = (name.contains("norm") || name.contains("ln_")) && name.ends_with("weight");
        let is_table = name.contains("embed") || name.contains("wte") || name.contains("wpe");
        let (scale, shift) = match shape.len() {
            1 => (0.1, if is_scale { 1.0 } else { 0.0 }),
            _ => (if is_table { 1.0 } else { 1.5 / 8.0 }, 0.0),
        };
        weights.insert(name, normal(100 + index as u64, &shape, scale, shift).to_dtype(dtype).unwrap());
    }
    safetensors::save(&weights, folder.join("model.safetensors")).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn write_llama(folder: &Path, dtype: DType) {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": MLP, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": false, "hidden_act": "silu", "rope_theta": 10000.0, "bos_token_id": 0, "eos_token_id": 0,
    });
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_string(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_string(), vec![HIDDEN]),
        ("lm_head.weight".to_string(), vec![VOCAB, HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let mut put = |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        put("input_layernorm", &[HIDDEN]);
        put("post_attention_layernorm", &[HIDDEN]);
        put("self_attn.q_proj", &[HIDDEN, HIDDEN]);
        put("self_attn.k_proj", &[HIDDEN / 2, HIDDEN]);
        put("self_attn.v_proj", &[HIDDEN / 2, HIDDEN]);
        put("self_attn.o_proj", &[HIDDEN, HIDDEN]);
        put("mlp.gate_proj", &[MLP, HIDDEN]);
        put("mlp.up_proj", &[MLP, HIDDEN]);
        put("mlp.down_proj", &[HIDDEN, MLP]);
    }
    write(folder, &config, shapes, dtype);
}

fn write_gpt2(folder: &Path, dtype: DType) {
    let config = json!({
        "model_type": "gpt2", "vocab_size": VOCAB, "n_positions": LENGTH, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4, "n_inner": MLP,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0,
    });
    let mut shapes = vec![("transformer.wte.weight".to_string(), vec![VOCAB, HIDDEN]), ("transformer.wpe.weight".to_string(), vec![LENGTH, HIDDEN])];
    let mut both = |name: String, shape: &[usize]| {
        shapes.push((format!("{name}.bias"), shape[shape.len() - 1..].to_vec()));
        shapes.push((format!("{name}.weight"), shape.to_vec()));
    };
    both("transformer.ln_f".into(), &[HIDDEN]);
    for layer in 0..LAYERS {
        let at = |name: &str| format!("transformer.h.{layer}.{name}");
        both(at("ln_1"), &[HIDDEN]);
        both(at("ln_2"), &[HIDDEN]);
        both(at("attn.c_attn"), &[HIDDEN, 3 * HIDDEN]);
        both(at("attn.c_proj"), &[HIDDEN, HIDDEN]);
        both(at("mlp.c_fc"), &[HIDDEN, MLP]);
        both(at("mlp.c_proj"), &[MLP, HIDDEN]);
    }
    write(folder, &config, shapes, dtype);
}

fn prompt() -> Vec<u32> {
    indices(50, LENGTH, VOCAB).into_iter().map(|token| token as u32).collect()
}

fn targets() -> Tensor<Dynamic, (Batch, Seq), Int> {
    Tensor::new(Candle::from_vec(indices(51, LENGTH, VOCAB), (1, LENGTH), &Device::Cpu).unwrap()).unwrap()
}

/// Values and gradients by the script's names.
#[derive(Default)]
struct Found(Vec<(String, Candle)>);

impl Found {
    fn put<S, K>(&mut self, name: &str, value: Tensor<Dynamic, S, K>) {
        self.0.push((name.to_string(), value.into_inner()));
    }

    fn both<S, K>(&mut self, name: &str, (value, gradient): (Tensor<Dynamic, S, K>, Tensor<Dynamic, S, K>)) {
        self.put(name, value);
        self.put(&format!("gradient of {name}"), gradient);
    }

    /// Forward passes that nothing is asked of the way back must be as exact.
    fn plain<S, K>(&mut self, name: &str, value: Tensor<Dynamic, S, K>) {
        self.put(&format!("{name} (no gradient)"), value);
    }
}

fn run_llama(model: &Llama<Dynamic>) -> Vec<(String, Candle)> {
    let mut found = Found::default();
    let targets = targets();
    let (ends, first, inner, parameters) = trace!(model, prompt(), {
        let logits = model.lm_head.output;
        let loss = -logits.log_softmax(Vocab).pick(Vocab, targets.traced(logits)).sum_all();
        let (layer, attention, mlp) = (model.layers[0], model.layers[0].self_attn, model.layers[0].mlp);
        (
            (
                loss,
                (model.embed_tokens.output, model.embed_tokens.output.grad(loss)),
                (model.layers[1].output, model.layers[1].output.grad(loss)),
                (model.norm.output, model.norm.output.grad(loss)),
                (logits, logits.grad(loss)),
            ),
            (
                (layer.input_layernorm.output, layer.input_layernorm.output.grad(loss)),
                (attention.q_proj.output, attention.q_proj.output.grad(loss)),
                (attention.o_proj.output, attention.o_proj.output.grad(loss)),
            ),
            ((mlp.act, mlp.act.grad(loss)), (mlp.output, mlp.output.grad(loss)), (layer.output, layer.output.grad(loss))),
            (
                model.embed_tokens.weight.grad(loss),
                model.layers[1].mlp.down_proj.weight.grad(loss),
                attention.k_proj.weight.grad(loss),
                layer.input_layernorm.weight.grad(loss),
            ),
        )
    })
    .unwrap();
    found.put("loss", ends.0);
    found.both("embed", ends.1);
    found.both("last layer", ends.2);
    found.both("last norm", ends.3);
    found.both("logits", ends.4);
    found.both("norm", first.0);
    found.both("q_proj", first.1);
    found.both("o_proj", first.2);
    found.both("act", inner.0);
    found.both("mlp", inner.1);
    found.both("layer", inner.2);
    let transposed = |x: Candle| x.t().unwrap();
    found.put("gradient of model.embed_tokens.weight", parameters.0);
    found.0.push(("gradient of model.layers.1.mlp.down_proj.weight".into(), transposed(parameters.1.into_inner())));
    found.0.push(("gradient of model.layers.0.self_attn.k_proj.weight".into(), transposed(parameters.2.into_inner())));
    found.put("gradient of model.layers.0.input_layernorm.weight", parameters.3);
    found.put("pattern", trace!(model, prompt(), { model.layers[0].self_attn.pattern }).unwrap());
    let (layer, logits) = trace!(model, prompt(), { (model.layers[0].output, model.lm_head.output) }).unwrap();
    found.plain("layer", layer);
    found.plain("logits", logits);
    found.0
}

fn run_gpt2(model: &Gpt2<Dynamic>) -> Vec<(String, Candle)> {
    let mut found = Found::default();
    let targets = targets();
    let (ends, inner, outer, parameters) = trace!(model, prompt(), {
        let logits = model.lm_head.output;
        let loss = -logits.log_softmax(Vocab).pick(Vocab, targets.traced(logits)).sum_all();
        let layer = model.transformer.h[0];
        (
            (
                loss,
                (model.transformer.h[1].output, model.transformer.h[1].output.grad(loss)),
                (model.transformer.ln_f.output, model.transformer.ln_f.output.grad(loss)),
                (logits, logits.grad(loss)),
            ),
            (
                (layer.ln_1.output, layer.ln_1.output.grad(loss)),
                (layer.attn.c_attn.output, layer.attn.c_attn.output.grad(loss)),
                (layer.attn.c_proj.output, layer.attn.c_proj.output.grad(loss)),
            ),
            (
                (layer.mlp.act, layer.mlp.act.grad(loss)),
                (layer.mlp.c_proj.output, layer.mlp.c_proj.output.grad(loss)),
                (layer.output, layer.output.grad(loss)),
            ),
            (
                model.transformer.wpe.weight.grad(loss),
                model.transformer.h[1].mlp.c_proj.weight.grad(loss),
                layer.attn.c_attn.weight.grad(loss),
                layer.ln_1.weight.grad(loss),
                layer.ln_1.bias.grad(loss),
            ),
        )
    })
    .unwrap();
    found.put("loss", ends.0);
    found.both("last layer", ends.1);
    found.both("last norm", ends.2);
    found.both("logits", ends.3);
    found.both("norm", inner.0);
    found.both("c_attn", inner.1);
    found.both("c_proj", inner.2);
    found.both("act", outer.0);
    found.both("mlp", outer.1);
    found.both("layer", outer.2);
    found.put("gradient of transformer.wpe.weight", parameters.0);
    found.put("gradient of transformer.h.1.mlp.c_proj.weight", parameters.1);
    found.put("gradient of transformer.h.0.attn.c_attn.weight", parameters.2);
    found.put("gradient of transformer.h.0.ln_1.weight", parameters.3);
    found.put("gradient of transformer.h.0.ln_1.bias", parameters.4);
    found.put("pattern", trace!(model, prompt(), { model.transformer.h[0].attn.pattern }).unwrap());
    let (layer, logits) = trace!(model, prompt(), { (model.transformer.h[0].output, model.lm_head.output) }).unwrap();
    found.plain("layer", layer);
    found.plain("logits", logits);
    found.0
}

/// The errors of both in a type.
pub fn errors(dtype: DType) -> Errors {
    let (llama, gpt2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_llama(llama.path(), dtype);
    write_gpt2(gpt2.path(), dtype);
    let run_llama = |dtype| run_llama(&Llama::load(Source::from(llama.path().to_path_buf()).dtype(dtype)).unwrap());
    let run_gpt2 = |dtype| run_gpt2(&Gpt2::load(Source::from(gpt2.path().to_path_buf()).dtype(dtype)).unwrap());
    let compare = |found: Vec<(String, Candle)>, expected: Vec<(String, Candle)>| {
        let pairs = found.into_iter().zip(expected);
        pairs.map(|((name, found), (_, expected))| (name, error(&found, &expected))).collect()
    };
    [("llama".to_string(), compare(run_llama(dtype), run_llama(DType::F32))), ("gpt2".to_string(), compare(run_gpt2(dtype), run_gpt2(DType::F32)))]
        .into()
}
