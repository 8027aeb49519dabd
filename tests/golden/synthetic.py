"""Weights that anyone can rebuild: each tensor is drawn from a generator seeded by its own name.

The golden outputs were computed with exactly these numbers, so every branch below is part of the data.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from alm_train.checkpoints.state import load_state

Model = TypeVar("Model", bound=nn.Module)

NORM_MARKS = ("norm", ".bn", "bn0", "ln_")
TIED_MARKS = ("embed_tokens", "lm_head", "wte")
FIXED = ("melW", "num_batches_tracked")
HEADS = {
    "lm.model.embed_tokens.weight": "lm.lm_head.weight",
    "gpt.transformer.wte.weight": "gpt.lm_head.weight",
}
"""The end of the embedding table's key, and of its head's."""


def computed(name: str) -> dict[str, np.ndarray]:
    """What the authors' code computed with these weights: the arrays of NAME.npz."""
    with np.load(Path(__file__).with_name(f"{name}.npz")) as file:
        return dict(file)


def loaded(model: Model) -> Model:
    """`model` with these weights, taken from a state dict in the layout of the official file."""
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    load_state(model, official_state(shapes), "synthetic weights")
    return model.eval()


def draw(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The float32 values of one tensor."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "logit_scale":
        return np.float32(np.log(1 / 0.07))
    if leaf == "running_var":
        return _generator(seed, key).uniform(0.5, 1.5, shape).astype(np.float32)
    mean, deviation, name = 0.0, 1.0, key
    if leaf == "running_mean":
        deviation = 0.5
    elif leaf == "bias":
        deviation = 0.05
    elif len(shape) == 1 and any(mark in key for mark in NORM_MARKS):
        mean, deviation = 1.0, 0.1
    elif "relative_position_bias_table" in key:
        deviation = 0.5
    elif any(mark in key for mark in TIED_MARKS):
        deviation, name = 0.05, f"tied-embedding:{list(shape)}"  # the tied pair draws equal numbers
    elif "wpe" in key:
        deviation = 0.05
    elif len(shape) >= 2:
        deviation = 1.2 / np.sqrt(np.prod(shape[1:]))
    return (mean + _generator(seed, name).normal(0.0, deviation, shape)).astype(np.float32)


def official_state(shapes: Mapping[str, torch.Size], seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict with the keys of the official file: `shapes` plus the unused classifier and the tied head."""
    keys = {key: tuple(shape) for key, shape in shapes.items() if not key.endswith(FIXED)}
    for key in shapes:
        if key.endswith("htsat.norm.weight"):
            head = key.replace("norm.weight", "head.")
            keys |= {f"{head}weight": (527, 527), f"{head}bias": (527,)}
        for table, head in HEADS.items():
            if key.endswith(table):
                keys[key.replace(table, head)] = tuple(shapes[key])
    return {key: torch.from_numpy(np.asarray(draw(key, shape, seed))) for key, shape in keys.items()}


def draw_by_checksum(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor of a GPT-2 under the second rule, that of `clapcap_beams.npz`."""
    normal = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(int(np.prod(shape))).reshape(shape)
    if key.endswith("bias"):
        values = 0.02 * normal
    elif len(shape) == 1:
        values = 1 + 0.1 * normal
    elif "wte" in key or "wpe" in key:
        values = 0.05 * normal
    else:
        values = normal / np.sqrt(shape[0])
    return torch.from_numpy(values.astype(np.float32))


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
