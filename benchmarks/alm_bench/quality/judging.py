"""MACE and FENSE: captions judged by a CLAP package and a fluency detector.

MACE (arXiv 2411.00321): mean of the caption's cosines with the clip and with its references, less 30 % where the
detector is surer than 0.97 that the caption is broken. FENSE (arXiv 2110.04684): the cosines with the references alone,
less 90 % above 0.9; the authors take a sentence encoder where this takes CLAP's text tower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm.errors import AudioError, PromptError
from alm.models import Clap
from alm_bench.quality.fluency import Detector
from alm_bench.quality.items import Item
from alm_bench.quality.measures import Measure, mean_of
from alm_bench.quality.texts import without_position

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Penalty:
    """What a broken caption loses."""

    above: float
    """Error probability beyond which a caption counts as broken."""
    share: float
    """Share of the score that it loses."""

    def factor(self, error: Floats) -> Floats:
        """What scores are multiplied by, by error probability."""
        return np.where(error > self.above, 1 - self.share, 1.0)


MACE = Penalty(0.97, 0.3)
FENSE = Penalty(0.9, 0.9)


@dataclass(frozen=True)
class CaptionJudge:
    """Scores captions; `judging` of a run."""

    clap: Clap
    """Embeds texts and recordings."""
    detector: Detector | None
    """Finds broken captions; without it nothing is taken off."""

    def measures(self, items: Sequence[Item], said: Mapping[str, Any], paths: Mapping[str, Path]) -> list[Measure]:
        """Similarities, FENSE and MACE per group, times 100. A recording that CLAP cannot read has no scores."""
        found = []
        for group in dict.fromkeys(item.group for item in items):
            members = [i for i in items if i.group == group and i.id in said and self._heard(paths[i.audio[0]])]
            if members:
                found += self._group(group, members, said, paths)
        return found

    def text_similarity(self, caption: str, references: Sequence[str]) -> float:
        """Mean cosine of a caption with its references; 0 for an empty caption."""
        vector = self._text(caption)
        if vector is None:
            return 0.0
        others = [other for other in map(self._text, references) if other is not None]
        return float(np.mean([vector @ other for other in others]))

    def _group(
        self, group: str, members: Sequence[Item], said: Mapping[str, Any], paths: Mapping[str, Path]
    ) -> list[Measure]:
        captions = [without_position(said[item.id]) for item in members]
        written = np.array([self.text_similarity(c, item.answers) for c, item in zip(captions, members, strict=True)])
        heard = np.array([self._audio_similarity(c, paths[i.audio[0]]) for c, i in zip(captions, members, strict=True)])
        error = (
            np.zeros(len(captions)) if self.detector is None else np.array(self.detector.error_probability(captions))
        )
        scores = {
            "CLAP text similarity": written,
            "CLAP audio similarity": heard,
            "MACE": (written + heard) / 2 * MACE.factor(error),
            "FENSE": written * FENSE.factor(error),
        }
        if self.detector is not None:
            scores["broken captions"] = (error > FENSE.above).astype(np.float64)
        ids, clips = tuple(item.id for item in members), tuple(item.audio[0] for item in members)
        return [
            Measure("caption", group, metric, ids, clips, mean_of((100 * values).tolist()))
            for metric, values in scores.items()
        ]

    def _audio_similarity(self, caption: str, path: Path) -> float:
        vector = self._text(caption)
        return 0.0 if vector is None else float(vector @ self.clap.hear(path).mean)

    def _heard(self, path: Path) -> bool:
        try:
            self.clap.hear(path)
        except AudioError:
            return False
        return True

    def _text(self, text: str) -> NDArray[np.float32] | None:
        """The vector of a text, of as many of its words as the text tower has places for."""
        words = text.split()
        while words:
            try:
                vector: NDArray[np.float32] = self.clap.embed_text([" ".join(words)])[0]
                return vector
            except PromptError:
                words = words[: -max(1, len(words) // 8)]
        return None
