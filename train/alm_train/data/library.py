"""The clips of a run, held in memory as log-mels: each clip once per playback speed.

Decoding, resampling and the log-mel are done once and kept on disk, so that an epoch costs only the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from alm_train.data.recordings import DataError, Recording
from alm_train.data.sounds import SYNTHETIC
from alm_train.data.synthetic import synthesise
from alm_train.models.frontend import FrontendConfig, LogMel

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Clip:
    """One clip of a library: a recording, or a synthetic sound named by its seed."""

    label: str
    """Key of `SOUNDS`."""
    source: str
    """Where it comes from; clips of one source are never split between train and val."""
    corpus: str
    """Corpus folder, or `synthetic`."""
    path: Path | None
    """Audio file of a recording."""
    seed: int = 0
    """Seed of a synthetic sound."""

    def waveform(self, frontend: FrontendConfig, speed: float = 1.0) -> NDArray[np.float32]:
        """(samples,) float32 at the front end's rate, played `speed` times as fast, tiled or cut to length."""
        if self.path is None:
            return synthesise(self.label, self.seed, frontend.samples, frontend.sample_rate)
        try:
            audio, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise DataError(f"{self.path} cannot be decoded: {error}") from error
        if not len(audio):
            raise DataError(f"{self.path} holds no samples")
        audio = soxr.resample(audio.mean(1), rate * speed, frontend.sample_rate)
        repeats = -(-frontend.samples // len(audio))
        return np.tile(audio, repeats)[: frontend.samples].astype(np.float32)


def recorded_clips(recordings: Sequence[Recording], per_source: int) -> list[Clip]:
    """Clips of recordings, at most `per_source` of one source (a talker says hundreds of digits), evenly spread."""
    by_source: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_source.setdefault(recording.source, []).append(recording)
    kept = (group[:: -(-len(group) // per_source)] for group in by_source.values())
    return [Clip(r.label, r.source, r.corpus, r.path) for group in kept for r in group]


def synthetic_clips(per_sound: int, first_seed: int) -> list[Clip]:
    """`per_sound` clips of every synthetic sound, with seeds from `first_seed` on."""
    seeds = range(first_seed, first_seed + per_sound)
    return [Clip(label, f"synthetic:{label}:{s}", "synthetic", None, s) for label in SYNTHETIC for s in seeds]


@dataclass(frozen=True)
class Library:
    """Clips and their log-mels."""

    clips: tuple[Clip, ...]
    """The clips, in the order of `log_mels`."""
    speeds: tuple[float, ...]
    """Playback speed of each view; the first is 1."""
    log_mels: torch.Tensor
    """(views, clips, frames, mels) float16 dB."""

    @property
    def labels(self) -> list[str]:
        """Label of each clip."""
        return [clip.label for clip in self.clips]

    def only(self, places: Sequence[int]) -> Library:
        """The clips at `places`, in that order."""
        return Library(tuple(self.clips[i] for i in places), self.speeds, self.log_mels[:, places])


def build_library(
    clips: Sequence[Clip], speeds: Sequence[float], frontend: FrontendConfig, cache: Path, progress: Progress
) -> Library:
    """Load the log-mels from `cache` or compute them and keep them there; `progress(done, total)`."""
    if not clips or speeds[0] != 1.0:
        raise DataError("a library needs at least one clip, and its first playback speed must be 1")
    file = cache / f"log_mels-{fingerprint(clips, speeds, frontend)}.npy"
    if not file.exists():
        keep(file, _compute(clips, speeds, frontend, progress))
    return Library(tuple(clips), tuple(speeds), torch.from_numpy(np.load(file)))


@torch.inference_mode()
def _compute(
    clips: Sequence[Clip], speeds: Sequence[float], frontend: FrontendConfig, progress: Progress
) -> NDArray[np.float16]:
    log_mel = LogMel(frontend)
    out = np.empty((len(speeds), len(clips), frontend.frames, frontend.mels), np.float16)
    for index, clip in enumerate(clips):
        waveforms = np.stack([clip.waveform(frontend, speed) for speed in speeds])
        out[:, index] = log_mel(torch.from_numpy(waveforms)).numpy()
        progress(index + 1, len(clips))
    return out


def keep(file: Path, array: NDArray[np.float16]) -> None:
    """Write a cache file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.replace(file)


def fingerprint(clips: Sequence[Clip], speeds: Sequence[float], frontend: FrontendConfig) -> str:
    """Names a cache file: other clips, speeds or settings give another name."""
    described = [[clip.label, clip.source, str(clip.path), clip.seed] for clip in clips]
    text = json.dumps([described, list(speeds), repr(frontend)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
