"""What nnsight does in the cases of docs/silent.md that can be run on one machine without a GPU.

    pip install torch transformers nnsight==0.8.1 accelerate
    python benches/peers/silent.py tests/reference/gpt2
"""
import sys
import warnings

import torch
import transformers
import nnsight
from nnsight import NNsight

warnings.simplefilter("ignore")
path = sys.argv[1]


def fresh():
    network = transformers.GPT2LMHeadModel.from_pretrained(path, attn_implementation="eager")
    return network.eval(), NNsight(network.eval())


def case(name):
    def run(function):
        try:
            with torch.no_grad():
                said = function()
        except Exception as error:
            said = f"error: {type(error).__name__}: {str(error).strip().splitlines()[-1][:120]}"
        print(f"{name}: {said}")

    return run


A, B = torch.tensor([[3, 17, 5, 40]]), torch.tensor([[9, 2, 33, 4, 5, 60, 7]])
print("nnsight", nnsight.__version__, "torch", torch.__version__, "transformers", transformers.__version__)


@case("1 a padded batch gives what each prompt gives alone")
def padded():
    network, model = fresh()
    alone = network(A).logits[0, -1]
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), A], 1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7])
    with model.trace(torch.cat([padded, B]), attention_mask=mask):
        together = model.lm_head.output[0, -1].save()
    return f"largest difference {float((together - alone).abs().max()):.1e}"


@case("4 save() outside of a trace")
def save_outside():
    value = nnsight.save(torch.ones(2))
    return f"no error, gives {type(value).__name__}"


@case("5 an edit made on a submodule, traced through the model")
def edit_child():
    network, model = fresh()
    with model.transformer.edit(inplace=True):
        model.transformer.h[1].mlp.output[:] = 0
    with model.trace(A):
        found = model.transformer.h[1].mlp.output.save()
    return f"no error, the edit {'is' if float(found.abs().max()) == 0 else 'is not'} there"


@case("10 several positions")
def positions():
    network, model = fresh()
    with model.trace(B):
        whole = model.transformer.h[1].output
        whole = (whole[0] if isinstance(whole, tuple) else whole).save()
        part = whole[:, [0, -1]].save()
    return f"largest difference {float((part - whole[:, [0, 6]]).abs().max()):.1e}"


@case("12 an edit that reaches nothing that is saved")
def no_effect():
    network, model = fresh()
    with model.trace(A):
        seen = model.transformer.h[0].mlp.output.save()
        model.transformer.h[2].mlp.output[:] = 0
    return "no error, no effect"


@case("12 an edit of a module whose name is wrong")
def wrong_name():
    network, model = fresh()
    with model.trace(A):
        model.transformer.h[1].mpl.output[:] = 0
        out = model.lm_head.output.save()
    return "no error"


@case("12 a layer that does not exist")
def wrong_layer():
    network, model = fresh()
    with model.trace(A):
        model.transformer.h[3].mlp.output[:] = 0
        out = model.lm_head.output.save()
    return "no error"


@case("12 a tensor assigned in another shape that broadcasts")
def broadcast():
    network, model = fresh()
    with model.trace(A):
        model.transformer.h[1].mlp.output = torch.zeros(1, 1, 32)
        out = model.lm_head.output.save()
    return f"no error, logits of shape {tuple(out.shape)}"
