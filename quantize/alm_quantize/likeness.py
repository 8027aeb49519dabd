"""What quantization changes in a model that compares sounds with texts: vectors, and the order they put things in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_quantize.gate import Assignment
from alm_quantize.quality import Score

LEAST_COSINE = 0.99
"""Median cosine to float32 below which a package is refused, whatever the budget."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Likeness:
    """One assignment of schemes and what it costs."""

    schemes: Assignment
    """Scheme name per part."""
    cosines: Mapping[str, float]
    """Median cosine of a vector to float32, by the part that makes it."""
    ranking: Score
    """Pairs that are in the same order as in float32."""
    accuracy: Mapping[str, Score]
    """`accuracy` and `accuracy_fp32`: right labels, where there are labels to be right about."""

    @property
    def costs(self) -> Mapping[str, float]:
        """How far each part is from float32."""
        return {part: 1 - cosine for part, cosine in self.cosines.items()}

    @property
    def summary(self) -> str:
        """What the whole costs, in words."""
        apart = ", ".join(f"median cosine of {part} {cosine:.4f}" for part, cosine in self.cosines.items())
        return f"{self.ranking.loss:.1%} of pairs in another order, {apart} (at least {LEAST_COSINE})"

    def within(self, budget: float) -> bool:
        """Whether few enough pairs changed places and the vectors are close enough."""
        return self.ranking.loss <= budget and min(self.cosines.values()) >= LEAST_COSINE

    def to_dict(self) -> dict[str, object]:
        """For the manifest."""
        cosines = {f"{part.removesuffix('_encoder')}_cosine": round(c, 6) for part, c in self.cosines.items()}
        return {"ranking": self.ranking.to_dict(), **cosines, **{k: s.to_dict() for k, s in self.accuracy.items()}}


def median_cosine(found: Float32, reference: Float32) -> float:
    """Over unit vectors (n, width)."""
    return float(np.median((found * reference).sum(-1)))


def order_agreement(found: Float32, reference: Float32) -> Score:
    """Of all pairs of columns in each row of (rows, columns), those that both put into the same order."""
    one, other = np.triu_indices(reference.shape[1], 1)
    same = (found[:, one] > found[:, other]) == (reference[:, one] > reference[:, other])
    return Score(int(same.sum()), same.size)


def right_labels(logits: Float32, labels: NDArray[np.int64]) -> Score:
    """Rows of (n, labels) whose largest logit is that of the row's own label (n,)."""
    return Score(int((logits.argmax(1) == labels).sum()), len(labels))
