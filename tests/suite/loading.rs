//! Checkpoints in all their forms, whole and damaged.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use nnsight::candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use nnsight::candle_core::{self, Tensor as Candle, safetensors};
use nnsight::prelude::*;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::shared::{difference, folder, identical, tiny_gpt2, tiny_llama};

const TOKENS: [u32; 5] = [3, 17, 5, 40, 22];

fn logits(model: &Llama<Dynamic>) -> Tensor<Dynamic, (Batch, Seq, Vocab)> {
    trace!(model, TOKENS.to_vec(), { model.lm_head.output }).unwrap()
}

/// A copy of the tiny Llama that may be changed.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(folder("tests/reference/llama").join(file), copy.path().join(file)).unwrap();
    }
    copy
}

fn config(folder: &Path) -> Json {
    serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
}

fn write_config(folder: &Path, config: &Json) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn failure(source: impl Into<Source>) -> String {
    match Llama::<Dynamic>::load(source) {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn several_safetensors_files() {
    let copy = copy();
    let all = safetensors::load(copy.path().join("model.safetensors"), &Device::Cpu).unwrap();
    fs::remove_file(copy.path().join("model.safetensors")).unwrap();
    let (mut one, mut two, mut map) = (HashMap::new(), HashMap::new(), serde_json::Map::new());
    for (index, (name, tensor)) in all.into_iter().enumerate() {
        let (part, file) = if index % 2 == 0 { (&mut one, "model-1.safetensors") } else { (&mut two, "model-2.safetensors") };
        map.insert(name.clone(), json!(file));
        part.insert(name, tensor);
    }
    safetensors::save(&one, copy.path().join("model-1.safetensors")).unwrap();
    safetensors::save(&two, copy.path().join("model-2.safetensors")).unwrap();
    fs::write(copy.path().join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    assert!(identical(&logits(&Llama::load(copy.path()).unwrap()), &logits(tiny_llama())));
    // A file of the list is missing.
    fs::remove_file(copy.path().join("model-2.safetensors")).unwrap();
    assert!(failure(copy.path()).contains("model-2.safetensors"));
    // The list points out of the folder.
    fs::write(copy.path().join("model.safetensors.index.json"), json!({ "weight_map": { "a": "../../secret" } }).to_string()).unwrap();
    assert!(failure(copy.path()).contains("other than files of the folder"));
}

#[test]
fn weights_stored_in_half_precision() {
    let copy = copy();
    let all = safetensors::load(copy.path().join("model.safetensors"), &Device::Cpu).unwrap();
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let stored = all.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(dtype).unwrap())).collect::<HashMap<_, _>>();
        safetensors::save(&stored, copy.path().join("model.safetensors")).unwrap();
        let relative = crate::shared::relative(&logits(&Llama::load(copy.path()).unwrap()), &logits(tiny_llama()));
        assert!(relative < 0.03, "{dtype:?}: {relative}");
    }
}

#[test]
fn both_spellings_of_the_rotary_parameters() {
    let copy = copy();
    let mut old = config(copy.path());
    let mut parameters = old.as_object_mut().unwrap().remove("rope_parameters").unwrap();
    old["rope_theta"] = parameters.as_object_mut().unwrap().remove("rope_theta").unwrap();
    old["rope_scaling"] = parameters;
    write_config(copy.path(), &old);
    assert!(identical(&logits(&Llama::load(copy.path()).unwrap()), &logits(tiny_llama())));
    // Without the scaling the numbers are others: it is read, not ignored.
    old["rope_scaling"] = Json::Null;
    write_config(copy.path(), &old);
    assert!(difference(&logits(&Llama::load(copy.path()).unwrap()), &logits(tiny_llama())) > 1e-3);
}

#[test]
fn configs_that_cannot_be_run() {
    let copy = copy();
    let original = config(copy.path());
    let with = |field: &str, value: Json| {
        let mut config = original.clone();
        config[field] = value;
        write_config(copy.path(), &config);
        failure(copy.path())
    };
    assert!(with("model_type", json!("mamba")).contains("`mamba`"));
    assert!(with("hidden_act", json!("gelu")).contains("`hidden_act` is `gelu`"));
    assert!(with("rope_parameters", json!({ "rope_type": "yarn", "rope_theta": 1.0 })).contains("`yarn`"));
    assert!(with("rope_parameters", json!({ "rope_type": "llama3", "rope_theta": 1.0 })).contains("no `factor`"));
    assert!(with("hidden_size", Json::Null).contains("no `hidden_size`"));
    assert!(with("num_attention_heads", json!(0)).contains("impossible"));
    assert!(with("num_key_value_heads", json!(3)).contains("impossible"));
    assert!(with("vocab_size", json!(65)).contains("`model.embed_tokens.weight` has the shape [64, 32]"));
    assert!(with("num_hidden_layers", json!(4)).contains("no tensor `model.layers.3."));
    fs::write(copy.path().join("config.json"), "{").unwrap();
    assert!(failure(copy.path()).contains("not JSON"));
    fs::remove_file(copy.path().join("config.json")).unwrap();
    assert!(failure(copy.path()).contains("config.json"));
}

#[test]
fn safetensors_cut_short() {
    let copy = copy();
    let file = copy.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    for length in [0, 3, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).unwrap();
        let message = failure(copy.path());
        assert!(message.contains("model.safetensors") && message.contains("damaged"), "{length}: {message}");
    }
    fs::remove_file(&file).unwrap();
    assert!(failure(copy.path()).contains("model.safetensors"));
}

/// Writes the tiny Llama as llama.cpp would, with all matrices in one quantization.
fn write_gguf(path: &Path, dtype: GgmlDType) {
    save_gguf(path, &as_gguf(dtype), [3, 32, 48, 4, 2]);
}

/// The tensors of the tiny Llama as llama.cpp has them.
pub fn as_gguf(dtype: GgmlDType) -> Vec<(String, QTensor)> {
    let weights = crate::shared::tensors("tests/reference/llama/model.safetensors");
    let mut tensors = Vec::new();
    for (name, tensor) in weights {
        let name = gguf_name(&name);
        let heads = if name.contains("attn_q.") { 4 } else { 2 };
        let tensor = match name.contains("attn_q.") || name.contains("attn_k.") {
            true => {
                let dims = tensor.dims().to_vec();
                let rest = dims[1..].iter().product::<usize>();
                tensor.reshape((heads, 2, dims[0] / heads / 2, rest)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap().reshape(dims).unwrap()
            }
            false => tensor,
        };
        let dtype = if tensor.rank() == 2 && tensor.dim(1).unwrap() % dtype.block_size() == 0 { dtype } else { GgmlDType::F32 };
        tensors.push((name, QTensor::quantize(&tensor, dtype).unwrap()));
    }
    tensors
}

/// Writes a GGUF file with these numbers of layers, hidden channels, neurons, heads, and key and value heads.
fn save_gguf(path: &Path, tensors: &[(String, QTensor)], [layers, hidden, mlp, heads, kv_heads]: [u32; 5]) {
    use gguf_file::Value;
    let tokens = (0..64).map(|token| Value::String(format!("t{token}"))).collect();
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", Value::U32(layers)),
        ("llama.context_length", Value::U32(64)),
        ("llama.embedding_length", Value::U32(hidden)),
        ("llama.feed_forward_length", Value::U32(mlp)),
        ("llama.attention.head_count", Value::U32(heads)),
        ("llama.attention.head_count_kv", Value::U32(kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.tokens", Value::Array(tokens)),
        ("tokenizer.ggml.merges", Value::Array(vec![])),
    ];
    let metadata = metadata.iter().map(|(name, value)| (*name, value)).collect::<Vec<_>>();
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect::<Vec<_>>();
    gguf_file::write(&mut fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// What llama.cpp calls a tensor.
fn gguf_name(name: &str) -> String {
    let name = name.replace("model.layers.", "blk.").replace("self_attn.o_proj", "attn_output").replace("self_attn.", "attn_");
    let name = name.replace("_proj.", ".").replace("input_layernorm", "attn_norm").replace("post_attention_layernorm", "ffn_norm");
    name.replace("mlp.", "ffn_").replace("model.embed_tokens", "token_embd").replace("model.norm", "output_norm").replace("lm_head", "output")
}

/// The tiny Llama without rotary scaling, which GGUF has no field for.
fn unscaled() -> tempfile::TempDir {
    let copy = copy();
    let mut config = config(copy.path());
    config["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 10_000.0 });
    write_config(copy.path(), &config);
    copy
}

/// A random Llama whose sizes all quantizations can divide, in blocks of 256. In a GGUF file its matrices are quantized; the folder holds what
/// these dequantize to, so that both must give the same, bit for bit.
fn quantized(folder: &Path, dtype: GgmlDType) {
    let config = json!({
        "model_type": "llama", "hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 1, "max_position_embeddings": 64, "vocab_size": 64, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0,
        "tie_word_embeddings": true,
    });
    write_config(folder, &config);
    let names = [
        ("model.embed_tokens.weight", 64),
        ("model.layers.0.self_attn.q_proj.weight", 256),
        ("model.layers.0.self_attn.k_proj.weight", 128),
        ("model.layers.0.self_attn.v_proj.weight", 128),
        ("model.layers.0.self_attn.o_proj.weight", 256),
        ("model.layers.0.mlp.gate_proj.weight", 256),
        ("model.layers.0.mlp.up_proj.weight", 256),
        ("model.layers.0.mlp.down_proj.weight", 256),
    ];
    let mut plain = HashMap::new();
    let mut stored = Vec::new();
    for name in ["model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight"] {
        let ones = Candle::ones(256, DType::F32, &Device::Cpu).unwrap();
        stored.push((gguf_name(name), QTensor::quantize(&ones, GgmlDType::F32).unwrap()));
        plain.insert(name.to_string(), ones);
    }
    for (name, rows) in names {
        let tensor = QTensor::quantize(&Candle::randn(0f32, 0.1, (rows, 256), &Device::Cpu).unwrap(), dtype).unwrap();
        let dequantized = tensor.dequantize(&Device::Cpu).unwrap();
        let heads = if name.contains("q_proj") { 4 } else { 2 };
        let turned = match name.contains("q_proj") || name.contains("k_proj") {
            true => dequantized.reshape((heads, rows / heads / 2, 2, 256)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap(),
            false => dequantized,
        };
        plain.insert(name.to_string(), turned.reshape((rows, 256)).unwrap());
        stored.push((gguf_name(name), tensor));
    }
    safetensors::save(&plain, folder.join("model.safetensors")).unwrap();
    save_gguf(&folder.join("tiny.gguf"), &stored, [1, 256, 256, 4, 2]);
}

#[test]
fn gguf_files_in_every_quantization() {
    use GgmlDType::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Q8_1, Q8K};
    for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
        let folder = tempfile::tempdir().unwrap();
        quantized(folder.path(), dtype);
        let gguf = logits(&Llama::load(folder.path().join("tiny.gguf")).unwrap());
        let plain = logits(&Llama::load(folder.path()).unwrap());
        assert!(identical(&gguf, &plain), "{dtype:?}: {}", difference(&gguf, &plain));
    }
    // These hold activations while others are multiplied; no file stores weights in them.
    let _ = (Q8_1, Q8K);
}

#[test]
fn a_gguf_file_gives_what_its_folder_gives() {
    let folder = unscaled();
    let expected = logits(&Llama::load(folder.path()).unwrap());
    let file = folder.path().join("tiny.gguf");
    write_gguf(&file, GgmlDType::F32);
    assert!(identical(&logits(&Llama::load(file.as_path()).unwrap()), &expected));
}

#[test]
fn gguf_files_with_stretched_rotary_frequencies() {
    // Llama 3's scaling of the tiny Llama's four frequencies, by the formula, as llama.cpp stores it.
    let factors = (0..4).map(|pair| {
        let turns = 16.0 * 10_000f64.powf(-2.0 * f64::from(pair) / 8.0) / (2.0 * std::f64::consts::PI);
        let smooth = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / 4.0 + smooth)) as f32
    });
    let factors = Candle::from_vec(factors.collect::<Vec<_>>(), 4, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    let mut tensors = as_gguf(GgmlDType::F32);
    tensors.push(("rope_freqs.weight".into(), QTensor::quantize(&factors, GgmlDType::F32).unwrap()));
    save_gguf(&file, &tensors, [3, 32, 48, 4, 2]);
    assert!(difference(&logits(&Llama::load(file.as_path()).unwrap()), &logits(tiny_llama())) < 1e-4);
}

#[test]
fn a_gpt2_from_a_gguf_file() {
    use gguf_file::Value;
    let mut tensors = Vec::new();
    for (name, tensor) in crate::shared::tensors("tests/reference/gpt2/model.safetensors") {
        let name = name.replace("transformer.h.", "blk.").replace("attn.c_attn", "attn_qkv").replace("attn.c_proj", "attn_output");
        let name = name.replace("mlp.c_fc", "ffn_up").replace("mlp.c_proj", "ffn_down").replace("ln_1", "attn_norm").replace("ln_2", "ffn_norm");
        let name =
            name.replace("transformer.wte", "token_embd").replace("transformer.wpe", "position_embd").replace("transformer.ln_f", "output_norm");
        let turned = name.starts_with("blk.") && tensor.rank() == 2;
        let tensor = if turned { tensor.t().unwrap().contiguous().unwrap() } else { tensor };
        tensors.push((name, QTensor::quantize(&tensor, GgmlDType::F32).unwrap()));
    }
    let metadata = [
        ("general.architecture", Value::String("gpt2".into())),
        ("gpt2.block_count", Value::U32(3)),
        ("gpt2.context_length", Value::U32(32)),
        ("gpt2.embedding_length", Value::U32(32)),
        ("gpt2.feed_forward_length", Value::U32(128)),
        ("gpt2.attention.head_count", Value::U32(4)),
        ("gpt2.attention.layer_norm_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.tokens", Value::Array(vec![Value::String("a".into())])),
        ("tokenizer.ggml.merges", Value::Array(vec![])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    let metadata = metadata.iter().map(|(name, value)| (*name, value)).collect::<Vec<_>>();
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect::<Vec<_>>();
    gguf_file::write(&mut fs::File::create(&file).unwrap(), &metadata, &tensors).unwrap();
    let (model, original) = (Gpt2::<Dynamic>::load(file.as_path()).unwrap(), tiny_gpt2());
    let a = trace!(model, TOKENS.to_vec(), { model.lm_head.output }).unwrap();
    let b = trace!(original, TOKENS.to_vec(), { original.lm_head.output }).unwrap();
    assert!(difference(&a, &b) < 1e-5);
}

#[test]
fn a_sentence_piece_tokenizer_from_a_gguf_file() {
    use gguf_file::Value;
    let pieces = [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<0x21>", 0.0, 6),
        ("▁", -9.0, 1),
        ("h", -9.0, 1),
        ("e", -9.0, 1),
        ("l", -9.0, 1),
        ("o", -9.0, 1),
        ("he", -1.0, 1),
        ("ll", -2.0, 1),
        ("hell", -4.0, 1),
        ("▁hell", -5.0, 1),
        ("▁hello", -6.0, 1),
        ("el", -0.5, 1),
    ];
    let list = |values: Vec<Value>| Value::Array(values);
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", Value::U32(3)),
        ("llama.context_length", Value::U32(64)),
        ("llama.embedding_length", Value::U32(32)),
        ("llama.feed_forward_length", Value::U32(48)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", list(pieces.iter().map(|piece| Value::String(piece.0.into())).collect())),
        ("tokenizer.ggml.scores", list(pieces.iter().map(|piece| Value::F32(piece.1)).collect())),
        ("tokenizer.ggml.token_type", list(pieces.iter().map(|piece| Value::I32(piece.2)).collect())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    let metadata = metadata.iter().map(|(name, value)| (*name, value)).collect::<Vec<_>>();
    let tensors = as_gguf(GgmlDType::F32);
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect::<Vec<_>>();
    gguf_file::write(&mut fs::File::create(&file).unwrap(), &metadata, &tensors).unwrap();
    let model = Llama::<Dynamic>::load(file.as_path()).unwrap();
    // The pair with the best score is merged first: `el`, after which `he` and `ll` are no pairs any more.
    assert_eq!(model.tokenizer().encode("hello").unwrap(), [1, 4, 5, 14, 7, 8]);
    assert_eq!(model.tokenizer().encode("hell").unwrap(), [1, 4, 5, 14, 7]);
    // What no piece covers is spelled in bytes.
    assert_eq!(model.tokenizer().encode("o!").unwrap(), [1, 4, 8, 3]);
    assert_eq!(model.tokenizer().decode(&[4, 5, 14, 7, 8, 3]).unwrap(), "hello!");
}

#[test]
fn gguf_files_cut_short_or_of_another_kind() {
    let folder = unscaled();
    let file = folder.path().join("tiny.gguf");
    write_gguf(&file, GgmlDType::Q8_0);
    let bytes = fs::read(&file).unwrap();
    for length in [0, 3, 23, 24, 500, bytes.len() / 2, bytes.len() - 40] {
        fs::write(&file, &bytes[..length]).unwrap();
        let message = failure(file.as_path());
        assert!(message.contains("tiny.gguf") && message.contains("damaged"), "{length}: {message}");
    }
    fs::write(&file, b"not a model at all, but long enough").unwrap();
    assert!(failure(file.as_path()).contains("does not begin with `GGUF`"));
    let other = folder.path().join("model.bin");
    fs::write(&other, b"x").unwrap();
    assert!(failure(other.as_path()).contains("neither `.gguf` nor `.safetensors`"));
}

#[test]
fn gpt2_without_its_prefix() {
    // The original checkpoint names its tensors without `transformer.`.
    let copy = tempfile::tempdir().unwrap();
    fs::copy(folder("tests/reference/gpt2/config.json"), copy.path().join("config.json")).unwrap();
    let all = crate::shared::tensors("tests/reference/gpt2/model.safetensors");
    let short = all.into_iter().map(|(name, tensor)| (name.replace("transformer.", ""), tensor)).collect::<HashMap<String, Candle>>();
    safetensors::save(&short, copy.path().join("model.safetensors")).unwrap();
    let (model, original) = (Gpt2::<Dynamic>::load(copy.path()).unwrap(), tiny_gpt2());
    let a = trace!(model, TOKENS.to_vec(), { model.lm_head.output }).unwrap();
    let b = trace!(original, TOKENS.to_vec(), { original.lm_head.output }).unwrap();
    assert!(identical(&a, &b));
}

#[test]
fn plain_logits_are_the_traced_ones() -> candle_core::Result<()> {
    let model = tiny_llama();
    let plain = model.next_logits(&[Prompt::Tokens(TOKENS.to_vec())]).unwrap();
    assert!(difference(&plain, &logits(model).at(Seq, -1)) < 1e-5);
    Ok(())
}

proptest! {
    #![proptest_config(crate::shared::cases(64))]

    /// Whatever is in the file: an error or a model, never a panic.
    #[test]
    fn damaged_checkpoints_are_errors(edits in prop::collection::vec((0..4096usize, any::<u8>()), 1..8), cut in prop::option::of(any::<prop::sample::Index>())) {
        let folder = unscaled();
        let gguf = folder.path().join("tiny.gguf");
        write_gguf(&gguf, GgmlDType::Q8_0);
        for path in [folder.path().join("model.safetensors"), gguf] {
            let mut bytes = fs::read(&path).unwrap();
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            for (at, byte) in &edits {
                if let Some(target) = bytes.get_mut(*at) {
                    *target = *byte;
                }
            }
            fs::write(&path, bytes).unwrap();
            let source = if path.extension().unwrap() == "gguf" { path.as_path() } else { folder.path() };
            if let Ok(model) = Llama::<Dynamic>::load(source) {
                let _ = trace!(model, vec![1], { model.lm_head.output });
            }
        }
    }
}

#[test]
fn weights_in_fewer_bits_give_about_the_same() {
    const PROMPT: &str = "The Eiffel Tower is in the city of";
    let logits = |model: &Llama<SmolLm2_135M>| trace!(model, PROMPT, { model.lm_head.output.at(Seq, -1) }).unwrap();
    let expected = logits(crate::shared::smollm2());
    for (format, bound) in [(WeightFormat::Bf16, 0.3), (WeightFormat::Q8_0, 1.0), (WeightFormat::Q4_1, 6.0)] {
        let model = Llama::<SmolLm2_135M>::load(Source::default().weights(format)).unwrap();
        let found = logits(&model);
        let away = crate::shared::difference(&found, &expected);
        assert!(away > 0.0 && away < bound, "{format:?}: {away}");
        assert!(model.tokenizer().decode_top(&found, 1).unwrap().contains("Paris"), "{format:?}");
        // What a site shows is what products are made of.
        let shown = trace!(model, PROMPT, {
            model.layers[3].mlp.up_proj.weight = model.layers[3].mlp.up_proj.weight;
            model.lm_head.output.at(Seq, -1)
        });
        assert!(crate::shared::difference(&shown.unwrap(), &found) < 1e-3, "{format:?}");
    }
}

#[test]
fn weights_that_fewer_bits_cannot_hold_are_refused() {
    let source = Source::from(crate::shared::folder("tests/reference/llama")).weights(WeightFormat::Q8_0);
    let message = Llama::<Dynamic>::load(source).unwrap_err().to_string();
    assert!(message.contains("groups of 32"), "{message}");
}
