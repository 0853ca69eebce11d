//! Every module's output as Hugging Face transformers computes it, on tiny random checkpoints; `tests/reference/make_reference.py` wrote them.

use std::collections::HashMap;

use nnsight::candle_core::Tensor as Candle;
use nnsight::prelude::*;

use crate::shared::{difference, tensors, tiny_gpt2, tiny_llama};

fn tokens(expected: &HashMap<String, Candle>) -> Vec<u32> {
    expected["tokens"].get(0).unwrap().to_vec1::<i64>().unwrap().iter().map(|&token| token as u32).collect()
}

fn check(expected: &HashMap<String, Candle>, found: &[(String, Candle)]) {
    for (path, value) in found {
        let expected = &expected[path.as_str()];
        let difference = difference(value, expected);
        assert!(difference < 1e-4, "{path}: {difference}");
    }
}

#[test]
fn llama_with_rope_scaling_bias_and_untied_head() {
    let expected = tensors("tests/reference/llama/activations.safetensors");
    let model = tiny_llama();
    let (ends, layers) = trace!(model, tokens(&expected), {
        let layers = model.layers.iter().map(|layer| {
            let (a, m) = (layer.self_attn, layer.mlp);
            (
                (layer.input_layernorm.output, a.q_proj.output, a.k_proj.output, a.v_proj.output, a.o_proj.output, a.output, a.pattern),
                (layer.post_attention_layernorm.output, m.gate_proj.output, m.up_proj.output, m.down_proj.output, m.act, m.output, layer.output),
            )
        });
        ((model.embed_tokens.output, model.norm.output, model.lm_head.output), layers.collect::<Vec<_>>())
    })
    .unwrap();
    let mut found = vec![
        ("model.embed_tokens".to_string(), ends.0.into_inner()),
        ("model.norm".to_string(), ends.1.into_inner()),
        ("logits".to_string(), ends.2.clone().into_inner()),
        ("lm_head".to_string(), ends.2.into_inner()),
    ];
    for (layer, (a, m)) in layers.into_iter().enumerate() {
        found.push((format!("pattern.{layer}"), a.6.into_inner()));
        let mut put = |name: &str, value: Candle| found.push((format!("model.layers.{layer}{name}"), value));
        put(".input_layernorm", a.0.into_inner());
        put(".self_attn.q_proj", a.1.into_inner());
        put(".self_attn.k_proj", a.2.into_inner());
        put(".self_attn.v_proj", a.3.into_inner());
        put(".self_attn.o_proj", a.4.into_inner());
        put(".self_attn", a.5.into_inner());
        put(".post_attention_layernorm", m.0.into_inner());
        put(".mlp.gate_proj", m.1.into_inner());
        put(".mlp.up_proj", m.2.into_inner());
        put(".mlp.down_proj", m.3.into_inner());
        put(".mlp.act_fn", m.4.into_inner());
        put(".mlp", m.5.into_inner());
        put("", m.6.into_inner());
    }
    check(&expected, &found);
    assert!(expected.keys().filter(|name| *name != "tokens" && *name != "model").all(|name| found.iter().any(|(path, _)| path == name)));
}

#[test]
fn gpt2() {
    let expected = tensors("tests/reference/gpt2/activations.safetensors");
    let model = tiny_gpt2();
    let (ends, layers) = trace!(model, tokens(&expected), {
        let layers = model.transformer.h.iter().map(|layer| {
            let (a, m) = (layer.attn, layer.mlp);
            (
                (layer.ln_1.output, a.c_attn.output, a.c_proj.output, a.output, a.pattern),
                (layer.ln_2.output, m.c_fc.output, m.act, m.c_proj.output, m.output, layer.output),
            )
        });
        let t = model.transformer;
        ((t.wte.output, t.wpe.output, t.ln_f.output, model.lm_head.output), layers.collect::<Vec<_>>())
    })
    .unwrap();
    let mut found = vec![
        ("transformer.wte".to_string(), ends.0.into_inner()),
        ("transformer.wpe".to_string(), ends.1.into_inner()),
        ("transformer.ln_f".to_string(), ends.2.into_inner()),
        ("lm_head".to_string(), ends.3.into_inner()),
    ];
    for (layer, (a, m)) in layers.into_iter().enumerate() {
        found.push((format!("pattern.{layer}"), a.4.into_inner()));
        let mut put = |name: &str, value: Candle| found.push((format!("transformer.h.{layer}{name}"), value));
        put(".ln_1", a.0.into_inner());
        put(".attn.c_attn", a.1.into_inner());
        put(".attn.c_proj", a.2.into_inner());
        put(".attn", a.3.into_inner());
        put(".ln_2", m.0.into_inner());
        put(".mlp.c_fc", m.1.into_inner());
        put(".mlp.act", m.2.into_inner());
        put(".mlp.c_proj", m.3.into_inner());
        put(".mlp", m.4.into_inner());
        put("", m.5.into_inner());
    }
    check(&expected, &found);
}

#[test]
fn half_precision_stays_close() {
    let expected = tensors("tests/reference/llama/activations.safetensors");
    for dtype in [DType::BF16, DType::F16] {
        let model = Llama::<Dynamic>::load(Source::from(crate::shared::folder("tests/reference/llama")).dtype(dtype)).unwrap();
        let logits = trace!(model, tokens(&expected), { model.lm_head.output }).unwrap();
        assert_eq!(logits.dtype(), dtype);
        let relative = crate::shared::relative(&logits, &expected["logits"]);
        assert!(relative < 0.05, "{dtype:?}: {relative}");
    }
}
