"""Spoilt copies of clips, kept as log-mels beside the clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from alm_train.contrastive.degrade import DEGRADATIONS, degrade
from alm_train.data.library import Clip, Progress, fingerprint, keep
from alm_train.models.frontend import FrontendConfig, LogMel

KINDS = tuple(DEGRADATIONS)


@dataclass(frozen=True)
class Spoilt:
    """Copies of the clips of a library."""

    kinds: torch.Tensor
    """(copies, clips) places in `KINDS`."""
    log_mels: torch.Tensor
    """(copies, clips, frames, mels) float16 dB."""


def build_spoilt(
    clips: Sequence[Clip], copies: int, frontend: FrontendConfig, cache: Path, progress: Progress
) -> Spoilt:
    """Load the copies from the folder `cache` or compute them and keep them there.

    The kinds of a clip's copies differ and go around, so that each kind is heard equally often.
    """
    kinds = np.array([[(clip + copy) % len(KINDS) for clip in range(len(clips))] for copy in range(copies)])
    file = cache / f"spoilt-{copies}-{fingerprint(clips, (1.0,), frontend)}.npy"
    if not file.exists():
        keep(file, _compute(clips, kinds, frontend, progress))
    return Spoilt(torch.from_numpy(kinds), torch.from_numpy(np.load(file)))


@torch.inference_mode()
def _compute(clips: Sequence[Clip], kinds: np.ndarray, frontend: FrontendConfig, progress: Progress) -> np.ndarray:
    log_mel = LogMel(frontend)
    out = np.empty((*kinds.shape, frontend.frames, frontend.mels), np.float16)
    for index, clip in enumerate(clips):
        clean = clip.waveform(frontend)
        for copy, kind in enumerate(kinds[:, index]):
            rng = np.random.default_rng([index, copy])
            waveform = degrade(KINDS[kind], clean, frontend.sample_rate, rng)
            out[copy, index] = log_mel(torch.from_numpy(waveform[None]))[0].numpy()
        progress(index + 1, len(clips))
    return out
