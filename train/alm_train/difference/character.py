"""How a clip sounds apart from what it is: its pitch and how even it is, measured from its log-mel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PITCHES = ("low", "medium", "high")
COURSES = ("stays even", "rises and falls", "comes in bursts")
FLOOR_DB = -90.0
"""A clip that never gets above this is digital silence: the log-mel ends at -100 dB."""
QUIETEST_DB = 40.0
"""Frames further below the loudest one count as that far below: pauses are pauses, however deep."""
CLEAR = 0.5
"""Two clips differ when they lie this many standard deviations of the training clips apart."""


@dataclass(frozen=True)
class Character:
    """What was measured of one clip, in standard deviations of the training clips around their mean."""

    pitch: float
    """Mean mel band, weighted by power."""
    swing: float
    """Deviation of the level over time."""
    silent: bool
    """Whether there is nothing to measure."""
    pitch_word: str
    """One of `PITCHES`: its third of the training clips."""
    course: str
    """One of `COURSES`, likewise by the swing."""


def measure(log_mels: Tensor) -> NDArray[np.float64]:
    """(clips, T, mels) dB to (clips, 3): mean band, deviation of the level in dB, loudest frame in dB."""
    rows = []
    for part in log_mels.split(64):
        power = 10 ** (part.double() / 10)
        bands = torch.arange(power.shape[-1], dtype=torch.float64)
        spectrum = power.sum(1)
        pitch = (spectrum @ bands) / spectrum.sum(-1)
        level = 10 * power.mean(-1).log10()
        loudest = level.max(-1).values
        swing = level.maximum(loudest[:, None] - QUIETEST_DB).std(-1)
        rows.append(torch.stack((pitch, swing, loudest), -1))
    return torch.cat(rows).numpy()


@dataclass(frozen=True)
class Scale:
    """What the training clips measure, to which others are compared."""

    mean: NDArray[np.float64]
    """(2,) of pitch and swing."""
    deviation: NDArray[np.float64]
    """(2,) likewise."""
    thirds: NDArray[np.float64]
    """(2, 2): the bounds between low, medium and high, in standard deviations, per measure."""

    @classmethod
    def of(cls, measured: NDArray[np.float64]) -> Scale:
        """From `measure` of the training clips; silent ones are left out."""
        heard = measured[measured[:, 2] > FLOOR_DB, :2]
        mean, deviation = heard.mean(0), heard.std(0)
        return cls(mean, deviation, np.quantile((heard - mean) / deviation, (1 / 3, 2 / 3), axis=0).T)

    def characters(self, measured: NDArray[np.float64]) -> tuple[Character, ...]:
        """The characters of clips from what `measure` gives."""
        found = []
        for row in measured:
            pitch, swing = (row[:2] - self.mean) / self.deviation
            words = [int((value > bounds).sum()) for value, bounds in zip((pitch, swing), self.thirds, strict=True)]
            silent = bool(row[2] <= FLOOR_DB)
            found.append(Character(float(pitch), float(swing), silent, PITCHES[words[0]], COURSES[words[1]]))
        return tuple(found)


def comparison(first: Character, second: Character) -> tuple[str, ...]:
    """What is clearly true of the second clip beside the first: of `higher`, `lower`, `more even`, `less even`."""
    said = []
    if abs(second.pitch - first.pitch) > CLEAR:
        said.append("higher" if second.pitch > first.pitch else "lower")
    if abs(second.swing - first.swing) > CLEAR:
        said.append("more even" if second.swing < first.swing else "less even")
    return tuple(said)
