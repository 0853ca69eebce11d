"""Write tiny random checkpoints of the newer architectures as Hugging Face transformers saves them, with what it computes of them.

usage: make_architectures.py OUT_DIR [NAME...]     (needs torch, transformers, safetensors, gguf)

Each folder holds config.json, model.safetensors, model.gguf with the names that llama.cpp has, and expected.safetensors:
tokens, logits            the prompt, and what the model makes of it
<module path>             the module's output; the norms of heads as (batch, heads, positions, channels)
pattern.<layer>           the attention pattern
padded.<row>.tokens       prompts of different lengths, run side by side with padding on the left
padded.<row>.logits       the logits at the row's own positions
generated.tokens, .logits what greedy decoding with a cache continues the prompt with, and the logits of each step
masked.tokens, .seen      a prompt of which some tokens are hidden, and which are not
masked.generated, .logits as for a continued prompt
grad.<module path>        of the logit LOSS at the last position, by the module's output

variants.json holds, for other values of some keys of the config (null takes a key out, and the text "null" is null), the logits at the last position.
"""
import json
import os
import shutil
import sys
import tempfile

import gguf
import torch
import transformers
from safetensors.torch import save_file

OUT, NAMES = sys.argv[1], sys.argv[2:]
TOKENS = [3, 17, 5, 40, 22, 8, 60, 1, 33, 12, 7]
PROMPTS = [TOKENS, [9, 2, 33, 4], [6, 17, 5, 41, 22, 8, 1]]
SEEN = [0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]
LOSS = 5
# What llama.cpp calls an architecture, if not as transformers does.
LLAMA_CPP = {"mistral": "llama", "gpt_neox": "gptneox"}
SMALL = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             bos_token_id=0, eos_token_id=0, pad_token_id=0)


def heads(path, value):
    """The norms of heads are applied before or after the axes of heads and positions change places."""
    if path.endswith(("q_norm", "k_norm")) and value.dim() == 4 and value.shape[1] == len(TOKENS):
        return value.transpose(1, 2)
    return value


def write(name, config):
    folder = f"{OUT}/{name}"
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    for parameter in model.parameters():  # the default initialisation is too small to notice a mistake
        torch.nn.init.normal_(parameter, std=0.3)
    outputs = {}

    def remember(path):
        path = "embed_out" if name == "gpt_neox" and path == "lm_head" else path  # as in the checkpoint

        def hook(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            if isinstance(output, torch.Tensor):
                if output.requires_grad:
                    output.retain_grad()
                outputs[path] = output
        return hook

    handles = [module.register_forward_hook(remember(path)) for path, module in model.named_modules()
               if path not in ("", "model", "gpt_neox") and not path.endswith(("rotary_emb", "act_fn", ".act")) and "dropout" not in path]
    tokens = torch.tensor([TOKENS])
    result = model(tokens, output_attentions=True, use_cache=False)
    result.logits[0, -1, LOSS].backward()
    saved = {"tokens": tokens, "logits": result.logits}
    for path, output in outputs.items():
        saved[path] = heads(path, output)
        if output.grad is not None and path not in ("lm_head", "embed_out"):
            saved[f"grad.{path}"] = heads(path, output.grad)
    for layer, pattern in enumerate(result.attentions):
        saved[f"pattern.{layer}"] = pattern
    for handle in handles:
        handle.remove()

    width = max(map(len, PROMPTS))
    padded = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    with torch.no_grad():
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(padded, attention_mask=mask, position_ids=positions, use_cache=False).logits
        for row, prompt in enumerate(PROMPTS):
            saved[f"padded.{row}.tokens"] = torch.tensor(prompt)
            saved[f"padded.{row}.logits"] = logits[row, width - len(prompt):]
        continued = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=12, do_sample=False, pad_token_id=0,
                                   eos_token_id=None, return_dict_in_generate=True, output_logits=True)
        saved["generated.tokens"] = continued.sequences[0, len(TOKENS):]
        saved["generated.logits"] = torch.cat(continued.logits)
        # The cache changes nothing.
        whole = model(continued.sequences, use_cache=False).logits[0, len(TOKENS) - 1:-1]
        assert torch.allclose(whole, saved["generated.logits"], atol=1e-4), (whole - saved["generated.logits"]).abs().max()
        masked = model.generate(tokens, attention_mask=torch.tensor([SEEN]), max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None,
                                return_dict_in_generate=True, output_logits=True)
        saved["masked.tokens"], saved["masked.seen"] = tokens[0], torch.tensor(SEEN)
        saved["masked.generated"], saved["masked.logits"] = masked.sequences[0, len(TOKENS):], torch.cat(masked.logits)
    model.save_pretrained(folder)
    extra = f"{folder}/generation_config.json"
    if os.path.exists(extra):
        os.remove(extra)
    write_gguf(name, model)
    save_file({path: value.detach().clone().contiguous() for path, value in saved.items()}, f"{folder}/expected.safetensors")
    print(name, len(saved), "tensors,", sum(os.path.getsize(f"{folder}/{file}") for file in os.listdir(folder)), "bytes")


def write_variants(name):
    folder, cases = f"{OUT}/{name}", []
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    for changes in VARIANTS[name]:
        with tempfile.TemporaryDirectory() as other:
            shutil.copy(f"{folder}/model.safetensors", other)
            changed = {key: value for key, value in {**config, **changes}.items() if value is not None or key not in changes}
            changed = {key: None if value == "null" else value for key, value in changed.items()}
            with open(f"{other}/config.json", "w") as file:
                json.dump(changed, file)
            model = transformers.AutoModelForCausalLM.from_pretrained(other, attn_implementation="eager", dtype=torch.float32).eval()
        with torch.no_grad():
            logits = model(torch.tensor([TOKENS]), use_cache=False).logits[0, -1]
        cases.append({"changes": changes, "logits": [round(logit, 6) for logit in logits.tolist()]})
    with open(f"{folder}/variants.json", "w") as file:
        json.dump(cases, file, separators=(",", ":"))


def write_gguf(name, model):
    """The same weights as llama.cpp stores them: its own package has the names of tensors and of metadata."""
    config = model.config
    architecture = LLAMA_CPP.get(name, name)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), config.num_hidden_layers)
    writer = gguf.GGUFWriter(f"{OUT}/{name}/model.gguf", architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    if getattr(config, "num_key_value_heads", None):
        writer.add_head_count_kv(config.num_key_value_heads)
    if getattr(config, "head_dim", None):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if getattr(config, "rms_norm_eps", None):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(config.layer_norm_eps)
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope.get("partial_rotary_factor"):
        writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * config.hidden_size / config.num_attention_heads))
        writer.add_parallel_residual(config.use_parallel_residual)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if getattr(config, "sliding_window", None) and name != "qwen2":
        writer.add_sliding_window(config.sliding_window)
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, cap, None):
            getattr(writer, f"add_{cap}")(getattr(config, cap))
    for path, value in model.state_dict().items():
        if path == "lm_head.weight" and config.tie_word_embeddings:
            continue
        # As llama.cpp's converter does.
        if architecture == "llama" and path.endswith(("q_proj.weight", "k_proj.weight")):
            count = config.num_attention_heads if "q_proj" in path else config.num_key_value_heads
            value = value.reshape(count, 2, value.shape[0] // count // 2, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        if "query_key_value" in path:
            count = config.num_attention_heads
            value = value.reshape(count, 3, value.shape[0] // count // 3, -1).transpose(0, 1).reshape(value.shape)
        if name.startswith("gemma") and path.endswith("norm.weight"):
            value = value + 1
        writer.add_tensor(names.get_name(path, try_suffixes=(".weight", ".bias")), value.detach().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


ALL = {
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        **{key: value for key, value in SMALL.items() if key != "num_key_value_heads"}, num_hidden_layers=3,
        rope_parameters={"rope_type": "default", "rope_theta": 50000.0, "partial_rotary_factor": 0.5}),
    "mistral": lambda: transformers.MistralConfig(
        **SMALL, num_hidden_layers=3, head_dim=12, tie_word_embeddings=False, sliding_window=4,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
    # The second layer and those after it see a window.
    "qwen2": lambda: transformers.Qwen2Config(
        **SMALL, num_hidden_layers=3, tie_word_embeddings=False, use_sliding_window=True, sliding_window=4, max_window_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
    # A head has more channels than its share of the residual stream.
    "qwen3": lambda: transformers.Qwen3Config(
        **SMALL, num_hidden_layers=3, head_dim=12, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True),
    # As the next one, and scores and logits reach what they are kept below.
    "gemma2": lambda: transformers.Gemma2Config(
        **SMALL, num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20, sliding_window=4, attn_logit_softcapping=1.5,
        final_logit_softcapping=3.0, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    # The window is shorter than the prompts; scores are scaled by another number than the root of a head's channels.
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SMALL, num_hidden_layers=4, head_dim=12, query_pre_attn_scalar=20, sliding_window=4,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
    # Biases, which the public checkpoints do not have.
    "olmo2": lambda: transformers.Olmo2Config(
        **SMALL, num_hidden_layers=3, attention_bias=True, tie_word_embeddings=False, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "linear", "rope_theta": 500000.0, "factor": 2.0}),
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
# In the spelling of older configs.
OLD = {"rope_parameters": None, "rope_theta": 50000.0}
EPSILON = {"rms_norm_eps": 0.1}
VARIANTS = {
    "gpt_neox": [{"layer_norm_eps": 0.1}, {"use_parallel_residual": False}, {"hidden_act": "gelu_new"}, {"rope_parameters": None, "rotary_pct": 1.0},
                 {"rope_parameters": None, "rotary_emb_base": 300.0}, {"rope_parameters": {**LINEAR, "partial_rotary_factor": 0.25}}],
    "mistral": [EPSILON, {"sliding_window": 2}, {"sliding_window": "null"}, {"sliding_window": None}, {"rope_parameters": LINEAR}, {"rope_parameters": LLAMA3}, OLD],
    "qwen2": [EPSILON, {"use_sliding_window": False, "layer_types": None}, {"layer_types": None, "max_window_layers": 2}, {"sliding_window": 2},
              {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, {"rope_parameters": LINEAR}, OLD],
    "qwen3": [EPSILON, {"rope_parameters": LINEAR}, {"rope_parameters": LLAMA3}, OLD, {**OLD, "rope_scaling": {"type": "linear", "factor": 2.0}}],
    "gemma2": [EPSILON, {"query_pre_attn_scalar": 12}, {"sliding_window": 2}, {"layer_types": None}, {"attn_logit_softcapping": 5.0},
               {"final_logit_softcapping": 1.0}, {"attn_logit_softcapping": None, "final_logit_softcapping": None},
               {"attn_logit_softcapping": "null", "final_logit_softcapping": "null"}, OLD],
    "gemma3": [EPSILON, {"query_pre_attn_scalar": 12}, {"sliding_window": 2}, {"layer_types": None}, OLD,
               {"layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]},
               {**OLD, "rope_local_base_freq": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
               {"layer_types": None, "_sliding_window_pattern": None, "sliding_window_pattern": 2},
               {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 300.0}, "sliding_attention": LINEAR}}],
    "olmo2": [EPSILON, {"rope_parameters": LLAMA3}, OLD],
}
for name in NAMES or ALL:
    write(name, ALL[name]())
    write_variants(name)
