"""Weights that anyone can rebuild: each tensor is drawn from a generator seeded by its own name.

The golden outputs were computed with exactly these numbers, so every branch below is part of the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch

NORM_MARKS = ("norm", ".bn", "bn0", "ln_")
TABLE_MARKS = ("embed_tokens", "lm_head")


def draw(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The float32 values of one tensor."""
    leaf = key.rsplit(".", 1)[-1]
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
    elif any(mark in key for mark in TABLE_MARKS):
        deviation, name = 0.05, f"tied-embedding:{list(shape)}"  # the tied pair draws equal numbers
    elif len(shape) >= 2:
        deviation = 1.2 / np.sqrt(np.prod(shape[1:]))
    return (mean + _generator(seed, name).normal(0.0, deviation, shape)).astype(np.float32)


def official_state(shapes: Mapping[str, torch.Size], seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict with the keys of the official file: `shapes` plus the unused classifier and the tied head."""
    base, table = "audio_encoder.base.htsat.head.", "caption_decoder.lm.model.embed_tokens.weight"
    extra = {f"{base}weight": (527, 527), f"{base}bias": (527,), "caption_decoder.lm.lm_head.weight": shapes[table]}
    keys = {key: tuple(shape) for key, shape in shapes.items() if shape} | extra
    return {key: torch.from_numpy(draw(key, tuple(shape), seed)) for key, shape in keys.items() if "melW" not in key}


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
