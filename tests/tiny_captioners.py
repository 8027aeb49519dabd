"""ClapCap and ADIFF small enough to export in seconds: the real code in every part, random weights, 1 s clips."""

from __future__ import annotations

from pathlib import Path

import torch
from golden.synthetic import draw
from tiny_mellow import ENCODER, tiny_tokenizer
from torch import nn

from alm_export.pipeline import Exported, Request, export
from alm_export.targets import find_target
from alm_train.checkpoints.weights import write_weights
from alm_train.models.adiff import Adiff, AdiffConfig
from alm_train.models.clapcap import ClapCap, ClapCapConfig
from alm_train.models.gpt2 import GPT2Config

DECODER = GPT2Config(vocabulary=320, width=48, layers=2, heads=3, max_positions=256)
STOP = 300
"""A merge that greedy answers rarely meet."""
CLAPCAP = ClapCapConfig(
    ENCODER, DECODER, embedding=24, prefix_tokens=6, mapper_layers=2, mapper_heads=4, pad_id=1, stop_id=STOP
)
ADIFF = AdiffConfig(
    ENCODER,
    DECODER,
    embedding=24,
    slot_tokens=60,
    mapper_layers=2,
    mapper_heads=4,
    cross_layers=2,
    cross_heads=2,
    separator_id=0,
    pad_id=1,
    stop_id=STOP,
)
SPREADS = {"gpt.transformer.wte": 4, "gpt.transformer.wpe": 10, ".attn.c_": 3}
"""With these, tokens follow from sound, place and what was said before, and captions do not repeat one word."""
MODELS = {"clapcap": lambda: ClapCap(CLAPCAP), "adiff": lambda: Adiff(ADIFF)}


def tiny_captioner(family: str, seed: int = 0) -> nn.Module:
    """A model in evaluation mode whose weights depend on `seed` and their names alone."""
    model = MODELS[family]()
    state = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and "melW" not in key:
            state[key] = torch.from_numpy(draw(key, tuple(tensor.shape), seed))
            for mark, factor in SPREADS.items():
                if mark in key and key.endswith("weight"):
                    state[key] *= factor
            if "bn0.running_mean" in key:  # what recordings have: -40 dB give or take 20
                state[key] -= 40
            elif "bn0.running_var" in key:
                state[key] *= 400
    model.load_state_dict(state)
    return model.eval()


def export_captioner(family: str, folder: Path, precision: str = "fp32") -> Exported:
    """Export a tiny captioner without a quality limit."""
    weights, target = folder / f"{family}-weights", find_target("x86_64")
    if not weights.exists():
        tokenizer = tiny_tokenizer().to_str()
        write_weights(weights, tiny_captioner(family), tokenizer, "CC0-1.0", "random numbers", family)
    from alm_export.families import find_exporter

    ladders = {"onnxruntime": find_exporter(family).ladders(target.ladders(precision, "onnxruntime"))}
    output = folder / f"{family}-{precision}.alm"
    return export(Request(target, precision, ladders, str(weights), output, 1.0, family=family))
