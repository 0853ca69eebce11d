"""Write two tiny random checkpoints as Hugging Face transformers saves them, with the output of every module.

usage: make_reference.py OUT_DIR     (needs torch, transformers, safetensors)

gpt2/   the GPT-2 architecture, context 32
llama/  the Llama architecture with grouped-query attention, Llama-3 rotary scaling and an untied head

Each folder holds config.json, model.safetensors and activations.safetensors: `tokens`, then `<module path>` -> its output.
"""
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

OUT = sys.argv[1]
TOKENS = torch.tensor([[3, 17, 5, 40, 22, 8, 60, 1, 33, 12, 7]])


def write(name, model):
    folder = f"{OUT}/{name}"
    os.makedirs(folder, exist_ok=True)
    model.eval()
    model.set_attn_implementation("eager")
    saved = {"tokens": TOKENS}

    def remember(path):
        def hook(_module, _inputs, output):
            if isinstance(output, tuple):
                output = output[0]
            if isinstance(output, torch.Tensor):
                saved[path] = output.detach().clone().contiguous()
        return hook

    for path, module in model.named_modules():
        if path and not path.endswith("rotary_emb"):
            module.register_forward_hook(remember(path))
    with torch.no_grad():
        result = model(TOKENS, output_attentions=True, use_cache=False)
    saved["logits"] = result.logits.clone().contiguous()
    for layer, pattern in enumerate(result.attentions):
        saved[f"pattern.{layer}"] = pattern.clone().contiguous()
    model.save_pretrained(folder)
    for extra in ("generation_config.json",):
        path = f"{folder}/{extra}"
        if os.path.exists(path):
            os.remove(path)
    save_file(saved, f"{folder}/activations.safetensors")
    print(name, len(saved), "tensors")


torch.manual_seed(0)
gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0))
for parameter in gpt2.parameters():  # the default initialisation is too small to notice a mistake
    torch.nn.init.normal_(parameter, std=0.3)
write("gpt2", gpt2)

llama = LlamaForCausalLM(LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=True, bos_token_id=0, eos_token_id=0,
    rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 16}))
for parameter in llama.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
write("llama", llama)
