"""The experiments of benches/run in nnsight and torch: a line of JSON for each, with its time in milliseconds and its results.

    python benches/peers/figures.py FOLDER EXPERIMENTS.json [NAME …]

FOLDER is a checkpoint as Hugging Face writes it. Without names all experiments are run.
"""
import json
import os
import statistics
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
START = time.perf_counter()
folder, experiments = sys.argv[1], json.load(open(sys.argv[2]))
only = sys.argv[3:]

if only == ["script"]:
    # A whole script: load, one trace, print.
    import torch
    from nnsight import LanguageModel

    model = LanguageModel(folder, device_map="cpu", dispatch=True, dtype=torch.float32)
    with torch.no_grad(), model.trace(experiments["prompt"]):
        logits = model.lm_head.output[:, -1].save()
    print(json.dumps([round(float(value), 5) for value in logits[0, :16]]))
    sys.exit()

import nnsight
import torch
from nnsight import LanguageModel

torch.set_num_threads(os.cpu_count())
model = LanguageModel(folder, device_map="cpu", dispatch=True, dtype=torch.float32)
layers, head, norm = model.model.layers, model.lm_head, model.model.norm
depth = len(layers)
right, wrong = experiments["answers"]


def first(output):
    return output[0] if isinstance(output, tuple) else output


def ids(tokens, rows=1):
    return torch.tensor([tokens] * rows)


def difference(logits):
    return logits[..., right] - logits[..., wrong]


def experiment(name, runs):
    """Times a function: the median of some runs after one that is not counted, or one run where that takes long."""

    def run(function):
        if only and name not in only:
            return
        times = []
        for index in range(runs + (runs > 1)):
            start = time.perf_counter()
            values = function()
            times.append((time.perf_counter() - start) * 1e3)
        values = [float(value) for value in torch.as_tensor(values).flatten()]
        times = times[1:] if runs > 1 else times
        print(json.dumps({"name": name, "ms": statistics.median(times), "values": values}), flush=True)

    return run


@torch.no_grad()
def clean_layers(tokens):
    with model.trace(ids(tokens)):
        saved = nnsight.save([first(layer.output).clone() for layer in layers])
    return saved


@torch.no_grad()
def grid_one_by_one(pair):
    clean, corrupted = clean_layers(pair[0]), ids(pair[1])
    grid = torch.zeros(depth, len(pair[1]))
    for layer in range(depth):
        for position in range(len(pair[1])):
            with model.trace(corrupted):
                first(layers[layer].output)[:, position, :] = clean[layer][:, position, :]
                logits = head.output[:, -1].save()
            grid[layer, position] = difference(logits[0])
    return grid


@torch.no_grad()
def grid_batched(pair):
    clean = clean_layers(pair[0])
    length = len(pair[1])
    rows = torch.arange(length)
    grid = torch.zeros(depth, length)
    for layer in range(depth):
        with model.trace(ids(pair[1], length)):
            first(layers[layer].output)[rows, rows, :] = clean[layer][0]
            logits = head.output[:, -1].save()
        grid[layer] = difference(logits)
    return grid


for name in ("far", "ioi"):
    pair = experiments[name]
    experiment(f"patch grid, {name}, one by one", 1)(lambda: grid_one_by_one(pair))
    experiment(f"patch grid, {name}, batched", 1)(lambda: grid_batched(pair))

tokens = experiments["ioi"][1]
heads = model.config.num_attention_heads
width = model.config.hidden_size // heads


@experiment("head ablation, one by one", 1)
@torch.no_grad()
def heads_one_by_one():
    grid = torch.zeros(depth, heads)
    for layer in range(depth):
        for index in range(heads):
            with model.trace(ids(tokens)):
                z = layers[layer].self_attn.o_proj.input.clone()
                z[:, :, index * width : (index + 1) * width] = 0
                layers[layer].self_attn.o_proj.input = z
                logits = head.output[:, -1].save()
            grid[layer, index] = difference(logits[0])
    return grid


@experiment("head ablation, batched", 1)
@torch.no_grad()
def heads_batched():
    grid = torch.zeros(depth, heads)
    for layer in range(depth):
        with model.trace(ids(tokens, heads)):
            z = layers[layer].self_attn.o_proj.input.clone()
            for index in range(heads):
                z[index, :, index * width : (index + 1) * width] = 0
            layers[layer].self_attn.o_proj.input = z
            logits = head.output[:, -1].save()
        grid[layer] = difference(logits)
    return grid


@experiment("logit lens", 5)
@torch.no_grad()
def lens():
    with model.trace(ids(tokens)):
        rows = nnsight.save([head(norm(first(layer.output))).max(-1).values for layer in layers])
    return torch.cat(list(rows))


@experiment("attribution patching", 5)
def attribution():
    clean = clean_layers(experiments["ioi"][0])
    with model.trace(ids(tokens)):
        held = []
        for layer in layers:
            h = first(layer.output)
            h.requires_grad_(True)
            held.append(h)
        hidden = nnsight.save(held)
        loss = difference(head.output[0, -1])
        # Gradients come by from the last layer to the first.
        with loss.backward():
            gradients = nnsight.save([h.grad for h in held[::-1]])
    with torch.no_grad():
        return torch.stack([((c - h) * g).sum(-1)[0] for c, h, g in zip(clean, hidden, list(gradients)[::-1])])


@experiment("generation, steered", 3)
@torch.no_grad()
def generation():
    direction = torch.tensor(experiments["direction"])
    with model.generate(ids(experiments["generation"]), max_new_tokens=20, do_sample=False, eos_token_id=None) as tracer:
        with tracer.iter[0:20]:
            first(layers[9].output)[:] += direction
        out = model.generator.output.save()
    return out[0, len(experiments["generation"]) :]


for length, last in ((14, False), (128, False), (128, True)):
    sequence = ids(experiments["sequence"][:length])

    @torch.no_grad()
    def one_pass():
        # The last position's logits alone are had by asking the model for them.
        with model.trace(sequence, **({"logits_to_keep": 1} if last else {})):
            logits = head.output.save()
        return logits[0, -1, :64] if last else logits[0, :, :8]

    experiment(f"traced pass, {length} tokens, {'last logits' if last else 'all logits'}", 11)(one_pass)

if not only:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        output = subprocess.run([sys.executable, *sys.argv, "script"], capture_output=True, text=True, check=True).stdout
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"name": "whole script", "ms": statistics.median(times), "values": json.loads(output.splitlines()[-1])}), flush=True)
