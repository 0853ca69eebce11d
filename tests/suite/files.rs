//! Files say what they mean: what is in a checkpoint is honoured, or refused by name. `tests/files/make.py` writes the inputs.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nnsight::candle_core::{Tensor as Candle, safetensors};
use nnsight::prelude::*;
use serde_json::{Value as Json, json};

use crate::shared::{difference, folder, tensors};

const TOKENS: [u32; 11] = [3, 17, 5, 40, 22, 8, 60, 1, 33, 12, 7];

fn file(name: &str) -> PathBuf {
    folder("tests/files").join(name)
}

/// The logits of a checkpoint, as transformers computes them.
fn expected(name: &str) -> Candle {
    tensors("tests/files/logits.safetensors")[name].clone()
}

fn logits(source: impl Into<Source>) -> Candle {
    let model = Llama::<Dynamic>::load(source).unwrap();
    let logits = trace!(model, TOKENS.to_vec(), { model.lm_head.output }).unwrap();
    logits.squeeze(0).unwrap()
}

#[track_caller]
fn is_as_expected(source: impl Into<Source>, name: &str) {
    let away = difference(&logits(source), &expected(name));
    assert!(away < 1e-4, "{name}: {away}");
}

#[track_caller]
fn refused(source: impl Into<Source>) -> String {
    match Llama::<Dynamic>::load(source) {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(!message.contains("at /") && !message.contains("stack backtrace"), "{message}");
}

/// A copy of a folder of `tests/files` that may be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(file(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn config(folder: &Path) -> Json {
    serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
}

/// The folder with another config.
fn with(folder: &Path, changes: &[(&str, Json)]) -> PathBuf {
    let mut config = config(&file("ends"));
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder.to_path_buf()
}

fn weights(folder: &Path) -> HashMap<String, Candle> {
    safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap()
}

fn write_weights(folder: &Path, weights: &HashMap<String, Candle>) {
    safetensors::save(weights, folder.join("model.safetensors")).unwrap();
}

#[test]
fn stretched_frequencies_of_a_gguf_file() {
    is_as_expected(file("linear.gguf").as_path(), "linear");
    // They matter.
    assert!(difference(&expected("linear"), &expected("plain")) > 0.1);
}

#[test]
fn every_spelling_of_stretched_frequencies() {
    let copy = copy("ends");
    for (key, value) in [
        ("rope_parameters", json!({ "rope_type": "linear", "factor": 4, "rope_theta": 10000 })),
        ("rope_parameters", json!({ "type": "linear", "factor": 4.0, "rope_theta": 10000.0, "rope_type": "linear" })),
        ("rope_scaling", json!({ "type": "linear", "factor": 4.0 })),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": 4.0 })),
    ] {
        is_as_expected(with(copy.path(), &[("rope_parameters", Json::Null), ("rope_theta", json!(10000)), (key, value)]).as_path(), "linear");
    }
}

#[test]
fn biases_in_folders_and_gguf_files() {
    is_as_expected(file("biased").as_path(), "biased");
    is_as_expected(file("biased.gguf").as_path(), "biased");
    is_as_expected(file("half_biased.gguf").as_path(), "half_biased");
}

#[test]
fn a_gpt2_with_masks_among_its_tensors() {
    let model = Gpt2::<Dynamic>::load(file("old_gpt2").as_path()).unwrap();
    let logits = trace!(model, TOKENS.to_vec(), { model.lm_head.output }).unwrap();
    assert!(difference(&logits.squeeze(0).unwrap(), &expected("old_gpt2")) < 1e-4);
}

#[test]
fn keys_that_change_what_is_computed_are_refused_by_name() {
    let copy = copy("ends");
    for (key, value) in [
        ("sliding_window", json!(4)),
        ("layer_types", json!(["sliding_attention"])),
        ("use_sliding_window", json!(true)),
        ("attn_logit_softcapping", json!(50.0)),
        ("final_logit_softcapping", json!(30.0)),
        ("logit_scale", json!(0.5)),
        ("logits_scaling", json!(8.0)),
        ("embedding_multiplier", json!(12.0)),
        ("residual_multiplier", json!(0.2)),
        ("partial_rotary_factor", json!(0.5)),
        ("query_pre_attn_scalar", json!(256)),
        ("clip_qkv", json!(8.0)),
        ("no_rope_layers", json!([1, 1, 0])),
        ("use_qk_norm", json!(true)),
        ("rope_interleaved", json!(true)),
        ("is_encoder_decoder", json!(true)),
        ("is_causal", json!(false)),
        ("pruned_heads", json!({ "0": [1] })),
        ("num_experts", json!(8)),
        ("quantization_config", json!({ "quant_method": "gptq", "bits": 4 })),
        ("auto_map", json!({ "AutoModelForCausalLM": "modeling_other.Other" })),
        ("architectures", json!(["LlamaBiModel"])),
        ("hidden_act", json!("gelu")),
        ("hidden_act", json!(7)),
        ("a_key_of_tomorrow", json!(1)),
    ] {
        says(&refused(with(copy.path(), &[(key, value)]).as_path()), &[key]);
    }
    // `scan` names all unknown keys at once, and who knows better may say so.
    let path = with(copy.path(), &[("a_key", json!(1)), ("b_key", json!(2)), ("sliding_window", json!(4))]);
    says(&refused(Source::from(path.as_path()).ignoring(["sliding_window"])), &["`a_key`", "`b_key`", "Source::ignoring"]);
    is_as_expected(Source::from(path.as_path()).ignoring(["a_key", "b_key"]).ignoring(["sliding_window".to_string()]), "plain");
}

#[test]
fn keys_of_a_gpt2_that_change_what_is_computed() {
    let copy = copy("old_gpt2");
    let original = config(copy.path());
    for (key, value) in [
        ("scale_attn_weights", json!(false)),
        ("scale_attn_weights", Json::Null),
        ("scale_attn_by_inverse_layer_idx", json!(true)),
        ("add_cross_attention", json!(true)),
        ("activation_function", json!("relu")),
        ("num_key_value_heads", json!(2)),
        ("rotary_dim", json!(4)),
        ("n_ctx", json!(31)),
        ("hidden_size", json!(64)),
        ("layer_norm_epsilon", json!(-1e-5)),
        ("layer_norm_epsilon", json!("1e-5")),
        ("tie_word_embeddings", json!("true")),
    ] {
        let mut config = original.clone();
        config[key] = value;
        fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
        let error = Gpt2::<Dynamic>::load(copy.path()).err().unwrap_or_else(|| panic!("{key} is passed over"));
        says(&error.to_string(), &[key]);
    }
}

#[test]
fn keys_that_change_nothing_are_accepted() {
    let copy = copy("ends");
    for (key, value) in [
        ("sliding_window", json!(64)),
        ("sliding_window", Json::Null),
        ("layer_types", json!(["full_attention"])),
        ("partial_rotary_factor", json!(1)),
        ("pretraining_tp", json!(2)),
        ("_name_or_path", json!("somewhere/else")),
        ("torch_dtype", json!("bfloat16")),
        ("is_decoder", json!(true)),
        ("hidden_act", json!("swish")),
        ("transformers.js_config", json!({ "dtype": "q4" })),
        ("rope_interleaved", json!(false)),
        ("id2label", json!({ "0": "LABEL_0" })),
        ("auto_map", json!({ "AutoTokenizer": "tokenization_other.Other" })),
        ("quantization_config", Json::Null),
        ("use_sliding_window", json!(false)),
    ] {
        is_as_expected(with(copy.path(), &[(key, value)]).as_path(), "plain");
    }
    // A window that is switched off.
    is_as_expected(with(copy.path(), &[("sliding_window", json!(4)), ("use_sliding_window", json!(false))]).as_path(), "plain");
}

#[test]
fn absurd_numbers_are_refused() {
    let copy = copy("ends");
    for (key, value, name) in [
        ("rms_norm_eps", json!(-1e-5), "rms_norm_eps"),
        ("rms_norm_eps", json!(0.0), "rms_norm_eps"),
        ("rms_norm_eps", json!(1e6), "rms_norm_eps"),
        ("rms_norm_eps", json!("1e-5"), "rms_norm_eps"),
        ("rope_parameters", json!({ "rope_type": "default", "rope_theta": 0.0 }), "rope_theta"),
        ("rope_parameters", json!({ "rope_type": "default", "rope_theta": -1.0 }), "rope_theta"),
        ("rope_parameters", json!({ "rope_type": "linear", "factor": 0.0 }), "factor"),
        ("rope_parameters", json!({ "rope_type": "linear", "factor": -4.0 }), "factor"),
        ("rope_parameters", json!({ "rope_type": "linear", "factor": "4" }), "factor"),
        ("rope_parameters", json!({ "rope_type": "linear", "factor": 4.0, "beta_fast": 32 }), "beta_fast"),
        ("rope_parameters", json!({ "rope_type": "linear", "type": "llama3", "factor": 4.0 }), "`type` is `llama3`"),
        ("rope_parameters", json!("linear"), "rope_parameters"),
        ("rope_parameters", json!({ "rope_type": "dynamic", "factor": 2.0 }), "dynamic"),
        ("rope_parameters", json!({ "rope_type": "longrope", "factor": 2.0 }), "longrope"),
        ("rope_parameters", json!({ "full_attention": { "rope_type": "default" } }), "full_attention"),
        ("rope_theta", json!(500000.0), "rope_theta"),
        ("rope_scaling", json!({ "type": "linear", "factor": 2.0 }), "rope_scaling"),
        ("head_dim", json!(1u64 << 28), "head 268435456"),
        ("head_dim", json!(-8), "head_dim"),
        ("head_dim", json!(8.5), "head_dim"),
        ("num_attention_heads", json!(1u64 << 28), "heads"),
        ("num_hidden_layers", json!(1u64 << 28), "layers"),
        ("max_position_embeddings", json!(1u64 << 40), "context"),
        ("vocab_size", json!(1u64 << 28), "vocabulary"),
        ("intermediate_size", json!(1u64 << 62), "MLP"),
        ("eos_token_id", json!("</s>"), "eos_token_id"),
        ("tie_word_embeddings", json!(1), "tie_word_embeddings"),
    ] {
        if key == "eos_token_id" {
            fs::remove_file(copy.path().join("generation_config.json")).unwrap();
        }
        let start = Instant::now();
        says(&refused(with(copy.path(), &[(key, value)]).as_path()), &[name]);
        assert!(start.elapsed() < Duration::from_secs(2), "{key}");
    }
    let llama3 =
        json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32 });
    says(&refused(with(copy.path(), &[("rope_parameters", llama3)]).as_path()), &["`low_freq_factor` is 4", "`high_freq_factor`"]);
}

#[test]
fn a_context_of_four_million_costs_what_a_run_needs() {
    let copy = copy("ends");
    let start = Instant::now();
    is_as_expected(with(copy.path(), &[("max_position_embeddings", json!(4_194_304))]).as_path(), "plain");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn tensors_that_are_not_used_are_named() {
    let copy = copy("ends");
    let mut all = weights(copy.path());
    let extra = Candle::ones(4, DType::F32, &Device::Cpu).unwrap();
    all.insert("score.weight".into(), extra.clone());
    all.insert("model.layers.0.self_attn.q_proj.bias".into(), Candle::ones(32, DType::F32, &Device::Cpu).unwrap());
    all.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), extra);
    write_weights(copy.path(), &all);
    let message = refused(copy.path());
    says(&message, &["2 tensors", "`model.layers.0.self_attn.q_proj.bias`, `score.weight`", "Source::ignoring"]);
    assert!(!message.contains("inv_freq"), "{message}");
    is_as_expected(Source::from(copy.path()).ignoring(["score.weight", "model.layers.0.self_attn.q_proj.bias"]), "plain");
    // One layer less than the file has.
    let copy = self::copy("biased");
    let mut all = weights(copy.path());
    let second = all.iter().map(|(name, tensor)| (name.replace("layers.0.", "layers.1."), tensor.clone())).collect::<Vec<_>>();
    all.extend(second);
    write_weights(copy.path(), &all);
    says(&refused(copy.path()), &["16 tensors", "model.layers.1.mlp.down_proj.bias"]);
}

#[test]
fn tensors_that_are_missing_are_named_all_at_once() {
    let copy = copy("ends");
    let mut all = weights(copy.path());
    for name in ["model.norm.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"] {
        all.remove(name);
    }
    write_weights(copy.path(), &all);
    says(&refused(copy.path()), &["no tensor", "`model.norm.weight`", "`lm_head.weight`", "`model.layers.0.mlp.up_proj.weight`"]);
    // As many as there may be: the first are named, the others counted.
    says(&refused(with(copy.path(), &[("num_hidden_layers", json!(4096))]).as_path()), &["and 36834 more"]);
}

#[test]
fn a_head_that_is_tied_and_another_one_in_the_file() {
    let copy = copy("ends");
    let path = with(copy.path(), &[("tie_word_embeddings", json!(true))]);
    says(&refused(path.as_path()), &["`lm_head.weight`", "tie_word_embeddings"]);
    let mut all = weights(copy.path());
    let table = all["model.embed_tokens.weight"].clone();
    let tied = logits(Source::from(path.as_path()).ignoring(["lm_head.weight"]));
    // The same head as the embedding is what the config says.
    all.insert("lm_head.weight".into(), table);
    write_weights(copy.path(), &all);
    assert_eq!(difference(&logits(path.as_path()), &tied), 0.0);
    all.remove("lm_head.weight");
    write_weights(copy.path(), &all);
    assert_eq!(difference(&logits(path.as_path()), &tied), 0.0);
}

#[test]
fn weights_that_are_not_finite_are_said_when_they_are_loaded() {
    let copy = copy("ends");
    let original = weights(copy.path());
    for (dtype, value) in [(DType::F32, f64::NAN), (DType::F16, f64::INFINITY), (DType::BF16, f64::NEG_INFINITY), (DType::F64, f64::NAN)] {
        let mut all = original.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(dtype).unwrap())).collect::<HashMap<_, _>>();
        let name = "model.layers.0.mlp.up_proj.weight";
        let ones = Candle::ones((1, 1), dtype, &Device::Cpu).unwrap();
        let wrong = (ones * value).unwrap();
        all.insert(name.into(), all[name].slice_assign(&[3..4, 5..6], &wrong).unwrap());
        write_weights(copy.path(), &all);
        says(&refused(copy.path()), &[name, "1 entries that are not finite", "at 101", "Source::allow_non_finite"]);
        let model = Llama::<Dynamic>::load(Source::from(copy.path()).allow_non_finite()).unwrap();
        let logits = trace!(model, TOKENS.to_vec(), { model.lm_head.output }).unwrap();
        assert!(logits.sum_all().unwrap().to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap().is_nan());
    }
    // Finite in the file, and infinite in the type that was asked for.
    let mut all = original.clone();
    all.insert("model.norm.weight".into(), Candle::full(1e6f32, 32, &Device::Cpu).unwrap());
    write_weights(copy.path(), &all);
    logits(copy.path());
    says(&refused(Source::from(copy.path()).dtype(DType::F16)), &["model.norm.weight", "32 entries"]);
}

#[test]
fn quantised_weights_that_are_not_finite() {
    use nnsight::candle_core::quantized::GgmlDType;
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("m.gguf");
    for dtype in [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16, GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q5_1, GgmlDType::Q8_0] {
        let (metadata, mut all) = read_gguf(&file("linear.gguf"));
        let name = "blk.0.attn_q.weight";
        // What a quantisation cannot hold becomes infinite.
        let huge = if dtype == GgmlDType::F32 || dtype == GgmlDType::BF16 { f32::INFINITY } else { 1e9 };
        let tensor = Candle::full(huge, (32, 32), &Device::Cpu).unwrap();
        all.insert(name.into(), nnsight::candle_core::quantized::QTensor::quantize(&tensor, dtype).unwrap());
        write_gguf(&path, &metadata, &all);
        says(&refused(path.as_path()), &[name, "not finite"]);
        Llama::<Dynamic>::load(Source::from(path.as_path()).allow_non_finite()).unwrap();
    }
}

type Metadata = HashMap<String, nnsight::candle_core::quantized::gguf_file::Value>;
type Quantised = HashMap<String, nnsight::candle_core::quantized::QTensor>;

fn read_gguf(path: &Path) -> (Metadata, Quantised) {
    let mut reader = fs::File::open(path).unwrap();
    let content = nnsight::candle_core::quantized::gguf_file::Content::read(&mut reader).unwrap();
    let names = content.tensor_infos.keys().cloned().collect::<Vec<_>>();
    let all = names.into_iter().map(|name| (name.clone(), content.tensor(&mut reader, &name, &Device::Cpu).unwrap())).collect();
    (content.metadata, all)
}

fn write_gguf(path: &Path, metadata: &Metadata, tensors: &Quantised) {
    let metadata = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect::<Vec<_>>();
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect::<Vec<_>>();
    nnsight::candle_core::quantized::gguf_file::write(&mut fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

#[test]
fn metadata_of_a_gguf_file_that_changes_what_is_computed() {
    use nnsight::candle_core::quantized::gguf_file::Value;
    let (original, all) = read_gguf(&file("linear.gguf"));
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("m.gguf");
    let text = |text: &str| Value::String(text.into());
    for (key, value) in [
        ("llama.rope.scaling.type", text("yarn")),
        ("llama.rope.scaling.type", text("longrope")),
        ("llama.rope.scaling.yarn_beta_fast", Value::F32(32.0)),
        ("llama.rope.scaling.attn_factor", Value::F32(1.2)),
        ("llama.rope.dimension_count", Value::U32(4)),
        ("llama.rope.freq_base", Value::F32(0.0)),
        ("llama.attention.sliding_window", Value::U32(4)),
        ("llama.attention.value_length", Value::U32(4)),
        ("llama.attention.causal", Value::Bool(false)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(-1e-5)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        ("llama.attention.head_count_kv", Value::Array(vec![Value::U32(2), Value::U32(4)])),
        ("llama.attention.head_count_kv", Value::I32(-2)),
        ("llama.expert_count", Value::U32(8)),
        ("llama.logit_scale", Value::F32(0.1)),
        ("llama.vocab_size", Value::U32(65)),
        ("llama.block_count", Value::F32(1.0)),
        ("llama.a_key_of_tomorrow", Value::U32(1)),
        ("general.type", text("adapter")),
        ("adapter.type", text("lora")),
    ] {
        let mut metadata = original.clone();
        metadata.insert(key.into(), value);
        write_gguf(&path, &metadata, &all);
        let message = refused(path.as_path());
        let last = key.rsplit('.').next().unwrap().replace("freq_base", "rope_theta").replace("layer_norm_rms_epsilon", "eps");
        says(&message, &[&last]);
    }
    for (key, value) in [
        ("llama.expert_count", Value::U32(0)),
        ("llama.logit_scale", Value::F32(1.0)),
        ("llama.attention.sliding_window", Value::U32(64)),
        ("llama.attention.head_count_kv", Value::Array(vec![Value::U32(2)])),
        ("llama.block_count", Value::I64(1)),
        ("general.name", text("a name")),
        ("quantize.imatrix.file", text("somewhere")),
    ] {
        let mut metadata = original.clone();
        metadata.insert(key.into(), value);
        write_gguf(&path, &metadata, &all);
        is_as_expected(path.as_path(), "linear");
    }
    // The older key of the same scaling, without a type; and none at all.
    let mut metadata = original.clone();
    metadata.remove("llama.rope.scaling.type");
    metadata.remove("llama.rope.scaling.factor");
    write_gguf(&path, &metadata, &all);
    is_as_expected(path.as_path(), "plain");
    metadata.insert("llama.rope.scale_linear".into(), Value::F32(4.0));
    write_gguf(&path, &metadata, &all);
    is_as_expected(path.as_path(), "linear");
    // A tensor that nobody asks for.
    let mut more = read_gguf(&file("linear.gguf")).1;
    let extra = Candle::ones((32, 32), DType::F32, &Device::Cpu).unwrap();
    more.insert(
        "blk.0.attn_gate.weight".into(),
        nnsight::candle_core::quantized::QTensor::quantize(&extra, nnsight::candle_core::quantized::GgmlDType::F32).unwrap(),
    );
    write_gguf(&path, &original, &more);
    says(&refused(path.as_path()), &["`blk.0.attn_gate.weight`"]);
}

#[test]
fn damaged_headers_of_gguf_files() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("m.gguf");
    let bytes = fs::read(file("linear.gguf")).unwrap();
    let at = |text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let (metadata, all) = read_gguf(&file("linear.gguf"));
    for alignment in [0u32, 24, u32::MAX] {
        let mut metadata = metadata.clone();
        metadata.insert("general.alignment".into(), nnsight::candle_core::quantized::gguf_file::Value::U32(alignment));
        write_gguf(&path, &metadata, &all);
        says(&refused(path.as_path()), &["m.gguf", "general.alignment"]);
    }
    // Sizes and offsets whose products and sums overflow.
    let tensor = at("token_embd.weight") + "token_embd.weight".len();
    for (offset, value) in [(4, u64::MAX), (12, u64::MAX / 2), (12, 1 << 62), (24, u64::MAX), (24, u64::MAX - 5000)] {
        let mut bytes = bytes.clone();
        bytes[tensor + offset..tensor + offset + 8].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        says(&refused(path.as_path()), &["m.gguf", "token_embd.weight"]);
    }
    // A text, an array and counts longer than the file.
    for (place, value) in [(at("general.architecture") - 8, u64::MAX), (at("tokenizer.ggml.tokens") + 21 + 8, 1 << 60), (8, 1 << 61), (16, u64::MAX)]
    {
        let mut bytes = bytes.clone();
        bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        says(&refused(path.as_path()), &["m.gguf", "damaged"]);
    }
    let mut other = bytes.clone();
    other[4] = 9;
    fs::write(&path, other).unwrap();
    says(&refused(path.as_path()), &["version 9"]);
}

#[test]
fn damaged_headers_of_safetensors_files() {
    let copy = copy("ends");
    let path = copy.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let write = |header: &str, data: &[u8]| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        fs::write(&path, bytes).unwrap();
        refused(copy.path())
    };
    let data = &bytes[8 + length..];
    says(&write(&header.replacen("[64,32]", "[18446744073709551615,32]", 1), data), &["damaged"]);
    says(&write(&header.replacen("[64,32]", "[4611686018427387904,4]", 1), data), &["damaged"]);
    says(&write(&header.replacen("[64,32]", "[64,33]", 1), data), &["damaged"]);
    says(&write(&header, &[data, b"more"].concat()), &["model.safetensors", "its tensors end at"]);
    fs::write(&path, [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    says(&refused(copy.path()), &["its header is said to have 18446744073709551615 bytes"]);
}

#[test]
fn the_file_that_is_named_is_the_file_that_is_read() {
    let copy = copy("ends");
    let other = copy.path().join("checkpoint-500.safetensors");
    let mut all = weights(copy.path());
    all.insert("model.norm.weight".into(), Candle::zeros(32, DType::F32, &Device::Cpu).unwrap());
    safetensors::save(&all, &other).unwrap();
    let zeros = logits(other.as_path());
    assert_eq!(zeros.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    is_as_expected(copy.path().join("model.safetensors").as_path(), "plain");
    is_as_expected(copy.path(), "plain");
    // Alone with its config.
    fs::remove_file(copy.path().join("model.safetensors")).unwrap();
    assert_eq!(difference(&logits(other.as_path()), &zeros), 0.0);
    says(&refused(copy.path()), &["model.safetensors"]);
}

#[test]
fn forms_that_are_not_read_are_named() {
    says(&refused(file("split-00001-of-00002.gguf").as_path()), &["part 1", "split into 2 files", "llama-gguf-split --merge"]);
    says(&refused(file("iq4_nl.gguf").as_path()), &["`blk.0.ffn_gate.weight`", "IQ4_NL"]);
    let copy = copy("ends");
    fs::rename(copy.path().join("model.safetensors"), copy.path().join("pytorch_model.bin")).unwrap();
    says(&refused(copy.path()), &["`pytorch_model.bin`", "pickle", "safe_serialization"]);
    fs::rename(copy.path().join("pytorch_model.bin"), copy.path().join("pytorch_model-00001-of-00002.bin")).unwrap();
    says(&refused(copy.path()), &["`pytorch_model-00001-of-00002.bin`"]);
    fs::rename(copy.path().join("pytorch_model-00001-of-00002.bin"), copy.path().join("model.gguf")).unwrap();
    says(&refused(copy.path()), &["`model.gguf`", "name that file"]);
}

#[test]
fn an_index_that_lies() {
    let copy = copy("ends");
    fs::rename(copy.path().join("model.safetensors"), copy.path().join("one.safetensors")).unwrap();
    fs::copy(copy.path().join("one.safetensors"), copy.path().join("two.safetensors")).unwrap();
    let index = |map: Json| fs::write(copy.path().join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    index(json!({ "model.norm.weight": "one.safetensors", "other": "one.safetensors" }));
    says(&refused(copy.path()), &["`other`", "`one.safetensors`"]);
    index(json!({ "model.norm.weight": "one.safetensors", "lm_head.weight": "two.safetensors" }));
    says(&refused(copy.path()), &["is in", "too"]);
    fs::copy(copy.path().join("one.safetensors"), copy.path().join("model.safetensors")).unwrap();
    says(&refused(copy.path()), &["`model.safetensors`, which is in the folder too"]);
    is_as_expected(copy.path().join("model.safetensors").as_path(), "plain");
    fs::remove_file(copy.path().join("model.safetensors")).unwrap();
    for name in ["/etc/passwd", "../x.safetensors", "C:\\x.safetensors", "a/b.safetensors"] {
        index(json!({ "model.norm.weight": name }));
        says(&refused(copy.path()), &["other than files of the folder"]);
    }
}

#[test]
fn a_gguf_file_with_an_unknown_tokenizer_runs_on_token_ids() {
    use nnsight::candle_core::quantized::gguf_file::Value;
    let (metadata, all) = read_gguf(&file("linear.gguf"));
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("m.gguf");
    for (key, value) in [("tokenizer.ggml.model", "rwkv"), ("tokenizer.ggml.pre", "of-tomorrow")] {
        let mut metadata = metadata.clone();
        metadata.insert(key.into(), Value::String(value.into()));
        write_gguf(&path, &metadata, &all);
        is_as_expected(path.as_path(), "linear");
        let model = Llama::<Dynamic>::load(path.as_path()).unwrap();
        assert!(model.try_tokenizer().is_none());
        let error = trace!(model, "some text", { model.lm_head.output }).unwrap_err().to_string();
        says(&error, &[value, "token ids"]);
    }
}

#[test]
fn generation_ends_where_its_config_says() {
    let model = Llama::<Dynamic>::load(file("ends").as_path()).unwrap();
    let expected = expected("ends").to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let generated = |model: &Llama<Dynamic>| {
        let tokens = generate!(model, TOKENS.to_vec(), max_new_tokens = 12, { model.tokens() }).unwrap();
        tokens.to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap()
    };
    assert_eq!(generated(&model), expected);
    // The list of the config, where there is no other; one number; and none.
    let copy = copy("ends");
    fs::remove_file(copy.path().join("generation_config.json")).unwrap();
    let last = expected[expected.len() - 1];
    for ends in [json!([63, last]), json!(last)] {
        assert_eq!(generated(&Llama::load(with(copy.path(), &[("eos_token_id", ends)]).as_path()).unwrap()), expected);
    }
    assert_eq!(generated(&Llama::load(with(copy.path(), &[("eos_token_id", json!(63))]).as_path()).unwrap()).len(), 12);
    fs::write(copy.path().join("generation_config.json"), "{").unwrap();
    says(&refused(copy.path()), &["generation_config.json", "JSON"]);
    // A conversion keeps them.
    let converted = tempfile::tempdir().unwrap();
    Llama::<Dynamic>::convert(file("ends").as_path(), converted.path()).unwrap();
    assert_eq!(generated(&Llama::load(converted.path()).unwrap()), expected);
}

#[test]
fn types_in_which_no_model_computes() {
    let source = || Source::from(file("ends").as_path());
    for dtype in [DType::U8, DType::U32, DType::I64, DType::F8E4M3] {
        says(&refused(source().dtype(dtype)), &[&format!("{dtype:?}"), "DType::F32"]);
    }
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        says(&refused(source().dtype(dtype).weights(WeightFormat::Q8_0)), &["Q8_0", &format!("{dtype:?}")]);
    }
    assert!(difference(&logits(source().dtype(DType::F64)), &expected("plain")) < 1e-4);
}

#[test]
fn errors_of_candle_come_without_its_backtrace() {
    let error = Llama::<Dynamic>::load(Source::from(folder("tests/reference/llama")).weights(WeightFormat::Q8_0)).unwrap_err();
    says(&error.to_string(), &["groups of 32"]);
    // What `main` prints.
    says(&format!("{error:?}"), &["groups of 32"]);
    // The sentence, and the line of the program.
    assert_eq!(format!("{error:?}").lines().count(), 5, "{error:?}");
}

#[test]
fn devices_and_pipes_are_not_read() {
    #[cfg(unix)]
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        let copy = copy("ends");
        let path = copy.path().join(name);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        says(&refused(copy.path()), &[name, "not a regular file but a device"]);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        says(&refused(copy.path()), &[name, "not a regular file but a pipe"]);
    }
    let copy = copy("ends");
    let long = fs::File::create(copy.path().join("config.json")).unwrap();
    long.set_len(1 << 40).unwrap();
    says(&refused(copy.path()), &["config.json", "longer than"]);
}

#[test]
fn a_fingerprint_is_that_of_the_content() {
    let (one, two) = (copy("ends"), copy("ends"));
    let of = |source: Source| Llama::<Dynamic>::load(source).unwrap().fingerprint().unwrap().to_string();
    let first = of(Source::from(one.path()));
    assert_eq!(first.len(), 64);
    assert_eq!(first, of(Source::from(two.path())));
    let mut others = vec![of(Source::from(one.path()).dtype(DType::BF16)), of(Source::from(one.path()).weights(WeightFormat::Q8_0))];
    others.push(of(Source::from(with(two.path(), &[("rms_norm_eps", json!(1e-6))]).as_path())));
    let mut all = weights(two.path());
    all.insert("model.norm.weight".into(), Candle::zeros(32, DType::F32, &Device::Cpu).unwrap());
    write_weights(two.path(), &all);
    others.push(of(Source::from(with(two.path(), &[]).as_path())));
    others.push(first);
    others.sort();
    others.dedup();
    assert_eq!(others.len(), 5);
    // Of files that changed after the model was loaded, there is none.
    let model = Llama::<Dynamic>::load(one.path()).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    write_weights(one.path(), &all);
    says(&model.fingerprint().unwrap_err().to_string(), &["model.safetensors", "load the model again"]);
}

#[test]
fn a_revision_is_of_a_repository() {
    says(&refused(Source::from(file("ends").as_path()).revision("main")), &["revision"]);
    says(&refused(Source::default().revision("main")), &["revision", "owner/name"]);
    #[cfg(feature = "hub")]
    for (name, revision) in [("owner/..", "main"), ("owner/name", "../x"), ("owner/name", "")] {
        says(&refused(Source::from(name).revision(revision)), &[name]);
    }
}
