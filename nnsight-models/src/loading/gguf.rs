//! GGUF files: quantized weights, config and tokenizer in one.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use serde_json::json;

use crate::config::Config;
use crate::error::at;
use crate::tokenizer::{GgufTokenizer, Tokenizer};
use crate::{Error, NoTokenizer, Result};

/// An open GGUF file.
pub struct Gguf {
    path: PathBuf,
    file: BufReader<File>,
    content: Content,
    architecture: String,
}

impl Gguf {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(at(path))?;
        let size = file.metadata().map_err(at(path))?.len();
        let mut file = BufReader::new(file);
        let damaged = |problem: String| Error::Format { path: path.to_path_buf(), format: "GGUF", problem };
        super::cache::check_gguf_header(&mut file, size).map_err(damaged)?;
        let content = Content::read(&mut file).map_err(|error| damaged(error.to_string()))?;
        for (name, info) in &content.tensor_infos {
            let block = info.ggml_dtype.block_size().max(1);
            let entries = info.shape.dims().iter().try_fold(1usize, |product, &size| product.checked_mul(size));
            let end = entries.and_then(|entries| (entries / block).checked_mul(info.ggml_dtype.type_size()));
            let end = end.and_then(|bytes| (bytes as u64).checked_add(info.offset)?.checked_add(content.tensor_data_offset));
            if end.is_none_or(|end| end > size) {
                return Err(damaged(format!("the tensor `{name}` lies outside of the file, which may have been cut off")));
            }
        }
        let architecture = match content.metadata.get("general.architecture") {
            Some(Value::String(name)) => name.clone(),
            _ => return Err(damaged("it does not name its architecture".into())),
        };
        Ok(Gguf { path: path.to_path_buf(), file, content, architecture })
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.content.metadata.get(&format!("{}.{key}", self.architecture))? {
            Value::F32(number) => Some(f64::from(*number)),
            Value::F64(number) => Some(*number),
            value => value.to_u64().ok().map(|number| number as f64),
        }
    }

    /// By how much each rotary frequency is stretched, where it is: llama.cpp stores the outcome of Llama 3's scaling as a tensor.
    fn rope_factors(&mut self) -> Result<Option<Vec<f32>>> {
        if !self.content.tensor_infos.contains_key("rope_freqs.weight") {
            return Ok(None);
        }
        let tensor = self.content.tensor(&mut self.file, "rope_freqs.weight", &Device::Cpu).and_then(|tensor| tensor.dequantize(&Device::Cpu));
        let factors = tensor.and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>());
        let damaged = |error: candle_core::Error| Error::Format { path: self.path.clone(), format: "GGUF", problem: error.to_string() };
        factors.map(Some).map_err(damaged)
    }

    /// What a `config.json` would say.
    pub fn config(&mut self) -> Result<Config> {
        if !matches!(self.architecture.as_str(), "llama" | "gpt2") {
            return Err(Error::OtherArchitecture { expected: "llama or gpt2", found: self.architecture.clone() });
        }
        let scaling = match self.rope_factors()? {
            Some(factors) => json!({ "rope_type": "factors", "factors": factors }),
            None => serde_json::Value::Null,
        };
        let size = |key: &str| self.number(key).map(|number| number as u64);
        let vocab = self.content.tensor_infos.get("token_embd.weight").and_then(|info| info.shape.dims().first().copied());
        let (hidden, heads) = (size("embedding_length"), size("attention.head_count"));
        let head_dim =
            size("attention.key_length").or(size("rope.dimension_count")).or(hidden.zip(heads).and_then(|(hidden, heads)| hidden.checked_div(heads)));
        let epsilon = self.number("attention.layer_norm_rms_epsilon").or(self.number("attention.layer_norm_epsilon"));
        Ok(Config::from_value(json!({
            "model_type": self.architecture,
            "hidden_size": hidden,
            "intermediate_size": size("feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": size("attention.head_count_kv").or(heads),
            "head_dim": head_dim,
            "num_hidden_layers": size("block_count"),
            "max_position_embeddings": size("context_length"),
            "vocab_size": vocab,
            "rms_norm_eps": epsilon,
            "layer_norm_epsilon": epsilon,
            "rope_theta": self.number("rope.freq_base"),
            "eos_token_id": self.content.metadata.get("tokenizer.ggml.eos_token_id").and_then(|id| id.to_u32().ok()),
            "rope_scaling": scaling,
            "attention_bias": self.content.tensor_infos.contains_key("blk.0.attn_q.bias"),
            "tie_word_embeddings": !self.content.tensor_infos.contains_key("output.weight"),
        })))
    }

    /// The tokenizer that the file's metadata describes, or why there is none.
    pub fn tokenizer(&self) -> Result<Tokenizer, NoTokenizer> {
        GgufTokenizer::read(&self.content.metadata)?.build()
    }

    /// Reads and dequantizes a tensor by its Hugging Face name.
    pub fn read(&mut self, name: &str) -> Result<Option<Tensor>> {
        let Some(stored) = gguf_name(name) else { return Ok(None) };
        if !self.content.tensor_infos.contains_key(&stored) {
            return Ok(None);
        }
        let damaged = |error: candle_core::Error| Error::Format { path: self.path.clone(), format: "GGUF", problem: format!("`{stored}`: {error}") };
        let tensor =
            self.content.tensor(&mut self.file, &stored, &Device::Cpu).and_then(|tensor| tensor.dequantize(&Device::Cpu)).map_err(damaged)?;
        let heads = match (self.architecture.as_str(), stored.rsplit('.').nth(1)) {
            ("llama", Some("attn_q")) => self.number("attention.head_count"),
            ("llama", Some("attn_k")) => self.number("attention.head_count_kv").or(self.number("attention.head_count")),
            _ => None,
        };
        let tensor = match heads {
            Some(heads) => halves(&tensor, heads as usize).map_err(damaged)?,
            None => tensor,
        };
        // GPT-2 stores its linear maps as (in, out); llama.cpp has turned them around.
        let turned =
            self.architecture == "gpt2" && name.ends_with(".weight") && [".c_attn.", ".c_proj.", ".c_fc."].iter().any(|part| name.contains(part));
        Ok(Some(if turned { tensor.t()?.contiguous()? } else { tensor }))
    }
}

/// llama.cpp turns neighbouring channels of a head against each other, Hugging Face the two halves of a head: this gives back the latter's
/// order of rows.
fn halves(weight: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let dims = weight.dims().to_vec();
    let rows = dims.first().copied().unwrap_or(0);
    let rest = dims.iter().skip(1).product::<usize>();
    let pairs = weight.reshape((heads, rows / heads.max(1) / 2, 2, rest))?;
    pairs.transpose(1, 2)?.contiguous()?.reshape(dims)
}

/// What llama.cpp calls a tensor.
fn gguf_name(name: &str) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" | "transformer.wte.weight" => "token_embd.weight",
        "transformer.wpe.weight" => "position_embd.weight",
        "model.norm.weight" | "transformer.ln_f.weight" => "output_norm.weight",
        "transformer.ln_f.bias" => "output_norm.bias",
        "lm_head.weight" => "output.weight",
        _ => "",
    };
    if !whole.is_empty() {
        return Some(whole.to_string());
    }
    let rest = name.strip_prefix("model.layers.").or(name.strip_prefix("transformer.h."))?;
    let (layer, rest) = rest.split_once('.')?;
    let (module, parameter) = rest.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" | "ln_1" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" | "attn.c_proj" => "attn_output",
        "attn.c_attn" => "attn_qkv",
        "post_attention_layernorm" | "ln_2" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.c_fc" => "ffn_up",
        "mlp.down_proj" | "mlp.c_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{parameter}"))
}
