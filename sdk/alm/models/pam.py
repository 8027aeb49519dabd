"""PAM: how good a recording sounds, from 0 to 1, without a reference (Deshmukh et al., 2024, arXiv 2402.00282).

CLAP's audio tower hears each window; the score is the probability that it is described by the good text of a pair and
not by the bad one. The texts' vectors are in the package, the text tower is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alm.audio import Source, WindowPolicy
from alm.models.sound_space import Reached, SoundSpace, softmax


@dataclass(frozen=True)
class Score:
    """How good a recording is."""

    values: Mapping[str, float]
    """For the whole recording by prompt pair, each from 0 to 1: the mean over its windows."""
    spans: tuple[tuple[float, float], ...]
    """Start and end of each window, seconds."""
    curve: Mapping[str, tuple[float, ...]]
    """By prompt pair, the score of each window."""

    @property
    def value(self) -> float:
        """The score by the package's first prompt pair."""
        return next(iter(self.values.values()))


class Pam(SoundSpace):
    """A loaded PAM package. Made by `alm.load`."""

    def score(
        self,
        source: Source,
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        progress: Reached | None = None,
    ) -> Score:
        """How good a recording is by each of the package's prompt pairs.

        Windows are the authors': consecutive ones of the model's length, and a last one that ends with the recording.
        `window="first"` scores the first only, as their paper did. Audio arguments and errors as for `hear`.
        """
        heard = self.hear(source, window=window, compat=compat, progress=progress)
        logits = np.float32(self.space.scale) * np.einsum("wd,ptd->pwt", heard.vectors, self._stored["pairs"])
        good = softmax(logits)[..., 0]
        names = [pair.name for pair in self.space.pairs]
        return Score(
            values={name: float(row.mean()) for name, row in zip(names, good, strict=True)},
            spans=heard.spans,
            curve={name: tuple(map(float, row)) for name, row in zip(names, good, strict=True)},
        )
