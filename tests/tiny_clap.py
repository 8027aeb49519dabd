"""CLAP small enough to export in seconds: the real code in every part, random weights, 1 s clips."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from golden.synthetic import draw
from tiny_mellow import ENCODER, tiny_tokenizer

from alm_export.families import find_exporter
from alm_export.pipeline import Exported, Request, export
from alm_export.targets import Ladders, find_target
from alm_train.checkpoints.weights import write_weights
from alm_train.models.clap import Clap, ClapConfig
from alm_train.models.gpt2 import GPT2Config

TEXT = GPT2Config(vocabulary=320, width=48, layers=2, heads=3, max_positions=80)
TINY = ClapConfig(ENCODER, TEXT, embedding=32, text_tokens=77, pad_id=1)


def tiny_clap(seed: int = 0) -> Clap:
    """A model in evaluation mode whose weights depend on `seed` and their names alone."""
    model = Clap(TINY)
    state = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and "melW" not in key and tensor.dim():
            state[key] = torch.from_numpy(draw(key, tuple(tensor.shape), seed))
    # What recordings have: -40 dB give or take 20.
    norm = "audio_encoder.base.htsat.bn0."
    state[f"{norm}running_mean"].sub_(40)
    state[f"{norm}running_var"].mul_(400)
    state["logit_scale"] = torch.tensor(math.log(20.0))
    # As a folder of weights keeps them, so that what comes out of one is this very model.
    model.load_state_dict({key: t.half().float() if t.is_floating_point() else t for key, t in state.items()})
    return model.eval()


def write_tiny_clap(folder: Path, model: Clap | None = None) -> Path:
    """A weights folder for `--weights`."""
    write_weights(folder, model or tiny_clap(), tiny_tokenizer().to_str(), "CC0-1.0", "random numbers", "clap")
    return folder


def export_space(
    family: str,
    weights: Path,
    output: Path,
    precision: str = "fp32",
    budget: float = 1.0,
    ladders: Ladders | None = None,
    **options: Any,
) -> Exported:
    """Export `clap` or `pam` for x86."""
    ladders = ladders or find_exporter(family).ladders(find_target("x86_64").ladders(precision, "onnxruntime"))
    device = find_target("x86_64")
    request = Request(
        target=device,
        scheme=precision,
        ladders={"onnxruntime": ladders},
        weights=str(weights),
        output=output,
        budget=budget,
        family=family,
        options=options,
    )
    return export(request)
