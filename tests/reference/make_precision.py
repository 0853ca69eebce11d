"""Measure PyTorch's errors in 16 bits, which tests/suite/precision.rs holds ours against.

usage: make_precision.py OUT.json     (needs torch, transformers)

Inputs and weights come from a formula that both sides compute, so that only the errors are committed: for each case and type the RMS and the
largest error of every value and gradient against the same program in f32 on the same inputs, each relative to the f32 result's RMS and largest
entry. Where transformers has two implementations of attention, the better of the two counts.
"""
import json
import platform
import sys

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

LENGTH, VOCAB, HIDDEN, HEADS, KV_HEADS, MLP, LAYERS = 1200, 256, 64, 4, 2, 160, 2


def uniform(seed, count):
    """Numbers from 0 to 1, by splitmix64."""
    with np.errstate(over="ignore"):
        z = (np.arange(count, dtype=np.uint64) + np.uint64(seed) * np.uint64(1_000_003)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2.0**24


def normal(seed, *shape, scale=1.0, shift=0.0):
    """About normal: four uniform numbers added up."""
    total = uniform(seed, 4 * int(np.prod(shape))).reshape(-1, 4)
    total = (total[:, 0] + total[:, 1] + total[:, 2] + total[:, 3] - 2.0) * 1.75
    return torch.tensor((total * scale + shift).astype(np.float32)).reshape(shape)


def positive(seed, *shape, scale=1.0):
    return torch.tensor(((uniform(seed, int(np.prod(shape))) + 0.05) * scale).astype(np.float32)).reshape(shape)


def indices(seed, count, size):
    return torch.tensor((uniform(seed, count) * size).astype(np.int64))


def cosine(x, y):
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))


def patched(x, row):
    y = x.clone()
    y[:, 10:90] = row[10:90]
    return y


def scattered(x, y):
    z = x.clone()
    z[indices(21, 50, 1200)] = y[:50]
    return z


GRID = (1200, 96)
WIDE = (40, 30000)
MILLION = (1000, 1000)
# name -> (inputs, program)
CASES = {
    "neg": ([normal(1, *GRID)], lambda x: -x),
    "exp": ([normal(1, *GRID)], torch.exp),
    "ln": ([positive(1, *GRID, scale=4.0)], torch.log),
    "sqrt": ([positive(1, *GRID, scale=4.0)], torch.sqrt),
    "sqr": ([normal(1, *GRID)], torch.square),
    "abs": ([normal(1, *GRID)], torch.abs),
    "tanh": ([normal(1, *GRID)], torch.tanh),
    "sigmoid": ([normal(1, *GRID, scale=4.0)], torch.sigmoid),
    "gelu": ([normal(1, *GRID, scale=2.0)], lambda x: F.gelu(x, approximate="tanh")),
    "silu": ([normal(1, *GRID, scale=4.0)], F.silu),
    "relu": ([normal(1, *GRID)], F.relu),
    "recip": ([positive(1, *GRID)], torch.reciprocal),
    "powf": ([positive(1, *GRID, scale=2.0)], lambda x: x**1.5),
    "clamp": ([normal(1, *GRID)], lambda x: x.clamp(-0.7, 0.3)),
    "times a number": ([normal(1, *GRID)], lambda x: x * 0.1),
    "plus a number": ([normal(1, *GRID)], lambda x: x + 0.3),
    "by a number": ([normal(1, *GRID)], lambda x: x / 3.0),
    "a number less": ([normal(1, *GRID)], lambda x: 1.1 - x),
    "add": ([normal(1, *GRID), normal(2, *GRID)], torch.add),
    "sub": ([normal(1, *GRID), normal(2, *GRID)], torch.sub),
    "mul": ([normal(1, *GRID), normal(2, *GRID)], torch.mul),
    "div": ([normal(1, *GRID), positive(2, *GRID)], torch.div),
    "maximum": ([normal(1, *GRID), normal(2, *GRID)], torch.maximum),
    "minimum": ([normal(1, *GRID), normal(2, *GRID)], torch.minimum),
    "add a row": ([normal(1, *GRID), normal(2, GRID[1])], torch.add),
    "mul a row": ([normal(1, *GRID), normal(2, GRID[1])], torch.mul),
    "sum": ([normal(1, *MILLION, shift=0.1)], lambda x: x.sum(-1)),
    "sum of rows": ([normal(1, *MILLION, shift=0.1)], lambda x: x.sum(0)),
    "sum of a million": ([positive(1, *MILLION, scale=0.02)], torch.sum),
    "mean": ([normal(1, *MILLION, shift=0.1)], lambda x: x.mean(-1)),
    "mean of a million": ([positive(1, *MILLION)], torch.mean),
    "var": ([normal(1, *MILLION)], lambda x: x.var(-1)),
    "var of a million": ([normal(1, *MILLION, shift=3.0)], torch.var),
    "norm": ([normal(1, *MILLION)], lambda x: x.norm(dim=-1)),
    "norm of a million": ([normal(1, *MILLION)], torch.norm),
    "max": ([normal(1, *GRID)], lambda x: x.amax(-1)),
    "min": ([normal(1, *GRID)], lambda x: x.amin(0)),
    "softmax": ([normal(1, *WIDE, scale=3.0)], lambda x: x.softmax(-1)),
    "softmax of rows": ([normal(1, *GRID, scale=3.0)], lambda x: x.softmax(0)),
    "log_softmax": ([normal(1, *WIDE, scale=3.0)], lambda x: x.log_softmax(-1)),
    "cross entropy": ([normal(1, *WIDE, scale=3.0)], lambda x: F.cross_entropy(x, indices(3, WIDE[0], WIDE[1]))),
    "cumsum": ([normal(1, 100, 1200)], lambda x: x.cumsum(-1)),
    "cumsum of rows": ([normal(1, *GRID)], lambda x: x.cumsum(0)),
    "matmul": ([normal(1, 200, 1200), normal(2, 1200, 150)], torch.matmul),
    "matmul of a long axis": ([normal(1, 4, 50000), normal(2, 50000, 5)], torch.matmul),
    "cosine": ([normal(1, *MILLION), normal(2, *MILLION, shift=0.2)], cosine),
    "where": ([normal(1, *GRID), normal(2, GRID[1])], lambda x, y: torch.where(x > 0, x, y)),
    "patch": ([normal(1, *GRID), normal(2, GRID[1])], patched),
    "scatter": ([normal(1, *GRID), normal(2, *GRID)], scattered),
    "index_select": ([normal(1, 50, 96)], lambda x: x[indices(4, 1200, 50)]),
    "pick": ([normal(1, *WIDE)], lambda x: x.gather(-1, indices(3, WIDE[0], WIDE[1])[:, None]).squeeze(-1)),
    "cat": ([normal(1, *GRID), normal(2, *GRID)], lambda x, y: torch.cat([x, y], 0)),
}


def run(inputs, program, dtype, as_dtype):
    """The value and the gradients of a program, in `dtype`, on inputs that are rounded to `as_dtype`."""
    inputs = [x.to(as_dtype).to(dtype).requires_grad_() for x in inputs]
    value = program(*inputs)
    weights = normal(9, *value.shape).to(as_dtype).to(dtype)
    (value * weights).sum().backward()
    found = {"value": value.detach()}
    found.update({f"gradient {place}": x.grad for place, x in enumerate(inputs)})
    return found


def error(found, expected):
    found, expected = found.double().flatten(), expected.double().flatten()
    difference = found - expected
    rms, largest = difference.square().mean().sqrt(), difference.abs().max()
    return [float(rms / expected.square().mean().sqrt()), float(largest / expected.abs().max())]


def weights(model):
    """Fills a model with weights by the formula, in the order of their names."""
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(sorted(model.named_parameters())):
            if name.endswith("lm_head.weight") and model.config.tie_word_embeddings:
                continue
            if parameter.dim() == 1:
                is_scale = "norm" in name or "ln_" in name
                shift = 1.0 if is_scale and name.endswith("weight") else 0.0
                parameter.copy_(normal(100 + seed, *parameter.shape, scale=0.1, shift=shift))
            else:
                scale = 1.0 if "embed" in name or "wte" in name or "wpe" in name else 1.5 / 8.0
                parameter.copy_(normal(100 + seed, *parameter.shape, scale=scale))


def llama():
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=MLP, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=0,
        eos_token_id=0, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=LENGTH, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_inner=MLP,
                                      bos_token_id=0, eos_token_id=0, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0))


SITES = {
    "llama": {
        "model.embed_tokens": "embed", "model.layers.0.input_layernorm": "norm", "model.layers.0.self_attn.q_proj": "q_proj",
        "model.layers.0.self_attn.o_proj": "o_proj", "model.layers.0.mlp.act_fn": "act", "model.layers.0.mlp.down_proj": "mlp",
        "model.layers.0": "layer", "model.layers.1": "last layer", "model.norm": "last norm", "lm_head": "logits"},
    "gpt2": {
        "transformer.h.0.ln_1": "norm", "transformer.h.0.attn.c_attn": "c_attn", "transformer.h.0.attn.c_proj": "c_proj",
        "transformer.h.0.mlp.act": "act", "transformer.h.0.mlp.c_proj": "mlp", "transformer.h.0": "layer",
        "transformer.h.1": "last layer", "transformer.ln_f": "last norm", "lm_head": "logits"},
}
PARAMETERS = {
    "llama": ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "model.layers.0.self_attn.k_proj.weight",
              "model.layers.0.input_layernorm.weight"],
    "gpt2": ["transformer.wpe.weight", "transformer.h.1.mlp.c_proj.weight", "transformer.h.0.attn.c_attn.weight", "transformer.h.0.ln_1.weight",
             "transformer.h.0.ln_1.bias"],
}


def run_model(name, make, dtype, as_dtype, attention):
    model = make()
    model.eval()
    model.set_attn_implementation(attention)
    weights(model)
    model = model.to(as_dtype).to(dtype)
    found = {}

    def remember(key):
        def hook(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            found[f"{key}"] = output
            output.retain_grad()
        return hook

    for path, module in model.named_modules():
        if path in SITES[name]:
            module.register_forward_hook(remember(SITES[name][path]))
    tokens = indices(50, LENGTH, VOCAB)[None]
    result = model(tokens, use_cache=False, output_attentions=attention == "eager")
    loss = F.cross_entropy(result.logits[0], indices(51, LENGTH, VOCAB), reduction="sum")
    loss.backward()
    values = {key: value.detach() for key, value in found.items()}
    values["loss"] = loss.detach()
    values.update({f"gradient of {key}": value.grad for key, value in found.items()})
    parameters = dict(model.named_parameters())
    values.update({f"gradient of {key}": parameters[key].grad for key in PARAMETERS[name]})
    if attention == "eager":
        values["pattern"] = result.attentions[0].detach()
    return values


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    errors = {}
    for dtype, short in [(torch.bfloat16, "bf16"), (torch.float16, "f16")]:
        for name, (inputs, program) in CASES.items():
            expected = run(inputs, program, torch.float32, dtype)
            found = run(inputs, program, dtype, dtype)
            for key, value in found.items():
                errors.setdefault(short, {}).setdefault(name, {})[key] = error(value, expected[key])
        for name, make in [("llama", llama), ("gpt2", gpt2)]:
            best = {}
            for attention in ["eager", "sdpa"]:
                expected = run_model(name, make, torch.float32, dtype, attention)
                found = run_model(name, make, dtype, dtype, attention)
                for key, value in found.items():
                    both = zip(error(value, expected[key]), best.get(key, [np.inf, np.inf]))
                    best[key] = [min(pair) for pair in both]
            errors[short][name] = best
    rounded = {dtype: {case: {key: [float(f"{number:.3e}") for number in numbers] for key, numbers in found.items()}
                       for case, found in cases.items()} for dtype, cases in errors.items()}
    machine = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    family = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in open("/proc/cpuinfo") if ":" in line}
    processor = f"{machine}, family {family.get('cpu family')}, model {family.get('model')}, {torch.backends.cpu.get_cpu_capability()}"
    with open(sys.argv[1], "w") as file:
        json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "processor": processor, "errors": rounded}, file,
                  indent=1, sort_keys=True)
        file.write("\n")
    print(processor, torch.__version__)


if __name__ == "__main__":
    main()
