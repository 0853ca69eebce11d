"""Write small checkpoints in the forms that files have in the wild, with the logits that transformers computes from them.

usage: make.py OUT_DIR     (needs torch, transformers, safetensors, gguf)

biased/             a Llama with biases in its attention and its MLP, as a folder
biased.gguf         the same as llama.cpp's converter writes it
half_biased.gguf    without the biases of the attention's output and of the gate, which are zero
linear.gguf         a Llama whose rotary frequencies are stretched by 4
ends/               a Llama whose end tokens are in generation_config.json
old_gpt2/           a GPT-2 as it was saved years ago: no prefix, causal masks among the tensors
iq4_nl.gguf         with one tensor in a quantisation that is not read
split-…             the first part of two
logits.safetensors  the logits of TOKENS, and what `ends` generates from it
"""
import json
import os
import sys

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

OUT = sys.argv[1]
TOKENS = [3, 17, 5, 40, 22, 8, 60, 1, 33, 12, 7]
SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=0)
saved = {"tokens": torch.tensor(TOKENS)}


def initialised(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    model.set_attn_implementation("eager")
    return model


def llama(**changes):
    return initialised(LlamaForCausalLM(LlamaConfig(**{**SIZES, **changes})))


def remember(name, model):
    with torch.no_grad():
        saved[name] = model(torch.tensor([TOKENS]), use_cache=False).logits[0].float().contiguous()


def folder(name, model, tensors=None):
    path = f"{OUT}/{name}"
    os.makedirs(path, exist_ok=True)
    model.config.save_pretrained(path)
    tensors = {key: value.contiguous() for key, value in (tensors or model.state_dict()).items()}
    save_file(tensors, f"{path}/model.safetensors", metadata={"format": "pt"})
    return path


MODULES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
           "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
           "mlp.down_proj": "ffn_down"}
NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def stored(name, tensor, config):
    """The name and the order of rows that llama.cpp has."""
    if name in NAMES:
        return NAMES[name], tensor
    _, _, layer, rest = name.split(".", 3)
    module, parameter = rest.rsplit(".", 1)
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}.get(module)
    if heads:
        tensor = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
    return f"blk.{layer}.{MODULES[module]}.{parameter}", tensor


def gguf_file(name, model, without=(), iq4_nl=(), more=lambda writer: None):
    config, writer = model.config, gguf.GGUFWriter(f"{OUT}/{name}.gguf", "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([chr(33 + token) for token in range(63)] + ['!"'])
    writer.add_token_types([1] * 64)
    writer.add_token_merges(['! "'])
    more(writer)
    for key, value in model.state_dict().items():
        key, value = stored(key, value.detach().float().numpy(), config)
        if key in without:
            continue
        if key in iq4_nl:
            rows, columns = value.shape
            data = np.zeros((rows, columns // 32 * 18), dtype=np.uint8)
            writer.add_tensor(key, data, raw_dtype=gguf.GGMLQuantizationType.IQ4_NL)
        else:
            writer.add_tensor(key, np.ascontiguousarray(value).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


biased = llama(attention_bias=True, mlp_bias=True)
folder("biased", biased)
gguf_file("biased", biased)
remember("biased", biased)
with torch.no_grad():
    biased.model.layers[0].self_attn.o_proj.bias.zero_()
    biased.model.layers[0].mlp.gate_proj.bias.zero_()
gguf_file("half_biased", biased, without=["blk.0.attn_output.bias", "blk.0.ffn_gate.bias"])
remember("half_biased", biased)

linear = llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})


def stretched(writer):
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)


gguf_file("linear", linear, more=stretched)
remember("linear", linear)
remember("plain", llama())

plain = llama()
gguf_file("iq4_nl", plain, iq4_nl=["blk.0.ffn_gate.weight"])


def split(writer):
    writer.add_uint16("split.no", 0)
    writer.add_uint16("split.count", 2)
    writer.add_int32("split.tensors.count", 12)


gguf_file("split-00001-of-00002", plain, without=["output.weight", "blk.0.ffn_down.weight", "blk.0.ffn_up.weight"], more=split)

path = folder("ends", plain)
prompt = dict(inputs=torch.tensor([TOKENS]), attention_mask=torch.ones(1, len(TOKENS), dtype=torch.long), max_new_tokens=12, do_sample=False)
with torch.no_grad():
    free = plain.generate(**prompt, eos_token_id=None, pad_token_id=0)[0, len(TOKENS):].tolist()
end = next(token for token in free[2:] if token not in free[:2])
with open(f"{path}/generation_config.json", "w") as file:
    json.dump({"bos_token_id": 1, "eos_token_id": [63, end], "pad_token_id": 0}, file)
with torch.no_grad():
    saved["ends"] = LlamaForCausalLM.from_pretrained(path).generate(**prompt)[0, len(TOKENS):].contiguous()
print("generates", free, "and with its end tokens", saved["ends"].tolist())

gpt2 = initialised(GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=1, n_head=4, n_inner=100, bos_token_id=0, eos_token_id=0)))
tensors = {key.replace("transformer.", ""): value for key, value in gpt2.state_dict().items() if key != "lm_head.weight"}
tensors["h.0.attn.bias"] = torch.tril(torch.ones(32, 32)).view(1, 1, 32, 32)
tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
folder("old_gpt2", gpt2, tensors)
remember("old_gpt2", gpt2)

save_file(saved, f"{OUT}/logits.safetensors")
