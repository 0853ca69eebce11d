"""Write what transformers computes of the reference checkpoints' prompts with an attention mask.

usage: make_masked.py REFERENCE_DIR     (needs torch, transformers)

<model>/masked.json: for each prompt its tokens, its mask, `generate`'s position ids, the logits of each generated token (six digits), and the tokens.
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM

TOKENS = [3, 17, 5, 40, 22, 8, 60]
MASKS = [
    [1, 1, 1, 1, 1, 1, 1],
    [0, 0, 1, 1, 1, 1, 1],  # padding on the left
    [1, 1, 0, 1, 1, 1, 1],
    [1, 0, 0, 1, 0, 1, 1],
    [0, 1, 1, 0, 1, 0, 1],
]
for name in ("llama", "gpt2"):
    folder = f"{sys.argv[1]}/{name}"
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    cases = []
    for seen in MASKS:
        mask = torch.tensor([seen])
        ids = torch.tensor([TOKENS])
        positions = model._prepare_position_ids_for_generation(ids, {"attention_mask": mask})
        with torch.no_grad():
            result = model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None,
                                    return_dict_in_generate=True, output_logits=True)
            logits = model(ids, attention_mask=mask, position_ids=positions).logits[0, -1]
        assert torch.allclose(logits, result.logits[0][0], atol=1e-5)
        cases.append({
            "tokens": TOKENS, "seen": [bool(one) for one in seen], "positions": positions[0].tolist(),
            "logits": [[round(x, 6) for x in step[0].tolist()] for step in result.logits], "generated": result.sequences[0, len(TOKENS):].tolist(),
        })
    with open(f"{folder}/masked.json", "w") as file:
        json.dump(cases, file, separators=(",", ":"))
