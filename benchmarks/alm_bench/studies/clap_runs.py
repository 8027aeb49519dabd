"""One side of `clap_speed`: score a folder, and say how many recordings a second and with how much memory.

python -m alm_bench.studies.clap_runs authors FOLDER THREADS
python -m alm_bench.studies.clap_runs package FOLDER THREADS PACKAGE
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

BATCH = 10
"""Recordings that the authors' runner stacks (soham97/PAM)."""


def authors(folder: Path, threads: int) -> Callable[[], int]:
    """PyTorch float32 as their runner has it: recordings one after the other, resampled by a convolution, stacked in
    batches, the tagging head included."""
    import torch
    from torch.nn import functional as F

    from alm_train.checkpoints.weights import load_weights

    torch.set_num_threads(threads)
    model = load_weights("random", "clap").model
    frontend = model.config.encoder.frontend
    prompts = torch.nn.functional.normalize(torch.randn(2, model.config.embedding), dim=-1)

    def score() -> int:
        paths = sorted(folder.iterdir())
        with torch.inference_mode():
            for start in range(0, len(paths), BATCH):
                batch = paths[start : start + BATCH]
                chunks = [chunk for path in batch for chunk in _windows(path, frontend.sample_rate, frontend.samples)]
                vectors = model.embed_audio(torch.from_numpy(np.stack(chunks)))
                (model.logit_scale.exp() * F.normalize(vectors, dim=-1) @ prompts.T).softmax(-1)
        return len(paths)

    return score


def _windows(path: Path, rate: int, length: int) -> list[np.ndarray]:
    """A recording as their runner cuts it: whole windows (length,), and the last one from the end."""
    import soundfile
    import torch

    from alm.audio.windows import tile

    samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    sound = torch.from_numpy(samples.T.copy())
    row = (sound if own == rate else _resampled(sound, own, rate)).reshape(-1).numpy()
    whole = [row[start : start + length] for start in range(0, len(row) - length + 1, length)]
    rest = [row[-length:]] if whole and len(row) % length else []
    return [*whole, *rest] or [tile(row, length)]


def _resampled(sound: torch.Tensor, own: int, rate: int) -> torch.Tensor:
    """(channels, n) at another rate. torchaudio is not needed: it would use these very kernels."""
    import torch
    from torch.nn import functional as F

    from alm.audio.compat import FILTER_WIDTH, ROLLOFF, sinc_kernels

    divisor = math.gcd(rate, own)
    old, new = own // divisor, rate // divisor
    width = math.ceil(FILTER_WIDTH * old / (min(old, new) * ROLLOFF))
    kernels = torch.from_numpy(sinc_kernels(old, new, width))[:, None]
    padded = F.pad(sound, (width, width + old))[:, None]
    steps = F.conv1d(padded, kernels, stride=old).transpose(1, 2).flatten(1)
    return steps[:, : math.ceil(new * sound.shape[1] / old)]


def package(folder: Path, threads: int, path: str) -> Callable[[], int]:
    """What `alm score FOLDER` does."""
    import alm
    from alm.folder import each, find_recordings
    from alm.memory import return_large_blocks
    from alm.models import Pam

    return_large_blocks()
    model = alm.load(path, Pam, threads=1, cache_bytes=0)

    def score() -> int:
        done = list(each(find_recordings(folder), model.score, workers=threads))
        if bad := [one for one in done if one.result is None]:
            raise RuntimeError(f"{bad[0].recording.path}: {bad[0].error}")
        return len(done)

    return score


def main(side: str, folder: str, threads: str, *rest: str) -> None:
    """Score once to warm up, then once more on the clock."""
    score = {"authors": authors, "package": package}[side](Path(folder), int(threads), *rest)
    score()
    started = time.perf_counter()
    count = score()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"clips_per_s": count / seconds, "memory_mb": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
