"""Fit the texts of a zero-shot classifier to unlabelled sound: one vector in the joint space, learned on the device.

A domain vector d is added to every class text before it is normalised again. Several views of a clip are classified,
the surest of them are averaged, and d follows the gradient of the average's entropy (Deshmukh, Singh and Raj, "Domain
Adaptation for Contrastive Audio-Language Models", arXiv 2402.09585, learn token embeddings with this objective; the
additive form needs no gradient through a text tower and is ours). Nothing of the model changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm.errors import PromptError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MASKED_SHARE = 0.1
"""Longest silenced stretch of a view, as a share of the clip."""
GAIN_DB = 6.0
"""Largest change of a view's level."""
HALVINGS = 12
"""Steps are halved this often until the entropy falls; then the vector stays where it is."""


@dataclass(frozen=True)
class AdaptationSettings:
    """How a domain vector is learned."""

    views: int = 8
    """Changed copies of each clip, besides the clip itself."""
    kept: float = 0.25
    """Share of the views that counts: those with the lowest entropy, at least one."""
    steps: int = 4
    """Steps down the gradient per clip."""
    rate: float = 0.05
    """Length of the first step tried; the joint space has unit vectors."""
    carry: bool = False
    """Keep the vector from clip to clip, as along a stream, instead of starting each clip at zero."""
    seed: int = 0
    """Seed of the views."""

    def __post_init__(self) -> None:
        if self.views < 0 or self.steps < 0 or not 0 < self.kept <= 1 or not self.rate > 0:
            raise PromptError(
                f"adaptation settings: expected views and steps >= 0, 0 < kept <= 1 and rate > 0; found views "
                f"{self.views}, steps {self.steps}, kept {self.kept}, rate {self.rate}"
            )


class Adapter:
    """Learns and holds the domain vector of one set of class texts. Not safe to share between threads."""

    def __init__(self, settings: AdaptationSettings = AdaptationSettings()) -> None:
        self.settings = settings
        self.vector: Float64 | None = None
        """(embedding,) domain vector; None until a clip was heard and after `reset`."""

    def reset(self) -> None:
        """Forget the domain: the next clip is classified as if it were the first."""
        self.vector = None

    def views(self, samples: Float32) -> Float32:
        """(samples,) to (1 + views, samples): the clip, then copies that are rolled, silenced in part and scaled."""
        rng = np.random.default_rng(self.settings.seed)
        return np.stack([samples, *(_changed(samples, rng) for _ in range(self.settings.views))])

    def classify(self, views: Float32, texts: Float32, scale: float) -> Float32:
        """Probabilities (classes,) of the first of the unit `views` (V, E) for the unit `texts` (classes, E).

        `scale` is what the model multiplies cosines with. Raises PromptError when the vector that is carried along
        was learned in a space of another size.
        """
        if not self.settings.carry or self.vector is None:
            self.vector = np.zeros(texts.shape[1])
        if self.vector.shape[0] != texts.shape[1]:
            raise PromptError(
                f"the adapter learned in a space of {self.vector.shape[0]} dimensions, this model has "
                f"{texts.shape[1]}; use a new Adapter or reset this one"
            )
        heard, said = views.astype(np.float64), texts.astype(np.float64)
        surest = heard[_surest(probabilities(heard, said, self.vector, scale), self.settings.kept)]
        for _ in range(self.settings.steps):
            self.vector = descend(surest, said, self.vector, scale, self.settings.rate)
        first: Float32 = probabilities(heard[:1], said, self.vector, scale)[0].astype(np.float32)
        return first


def probabilities(views: Float64, texts: Float64, vector: Float64, scale: float) -> Float64:
    """(V, classes): softmax over the classes of scaled cosines with the moved texts."""
    logits = scale * views @ _moved(texts, vector)[0].T
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def entropy(views: Float64, texts: Float64, vector: Float64, scale: float) -> float:
    """Entropy in nats of the views' mean probabilities."""
    mean = probabilities(views, texts, vector, scale).mean(0)
    return float(-(mean * np.log(np.maximum(mean, 1e-300))).sum())


def entropy_gradient(views: Float64, texts: Float64, vector: Float64, scale: float) -> Float64:
    """(E,) gradient of `entropy` with respect to `vector`."""
    each = probabilities(views, texts, vector, scale)
    slope = -(np.log(np.maximum(each.mean(0), 1e-300)) + 1.0)
    logits = each * (slope - (each * slope).sum(1, keepdims=True)) / len(views)
    moved, lengths = _moved(texts, vector)
    pull = scale * logits.T @ views
    across = pull - moved * (moved * pull).sum(1, keepdims=True)
    return np.asarray((across / lengths).sum(0))


def descend(views: Float64, texts: Float64, vector: Float64, scale: float, rate: float) -> Float64:
    """One step of at most `rate`, halved until the entropy falls; `vector` itself if it never does."""
    gradient = entropy_gradient(views, texts, vector, scale)
    length = float(np.linalg.norm(gradient))
    if length < 1e-12:
        return vector
    before = entropy(views, texts, vector, scale)
    for halving in range(HALVINGS):
        tried = np.asarray(vector - rate / 2**halving / length * gradient)
        if entropy(views, texts, tried, scale) < before:
            return tried
    return vector


def _moved(texts: Float64, vector: Float64) -> tuple[Float64, Float64]:
    """Texts with the vector added, normalised (classes, E), and their lengths before that (classes, 1)."""
    sums = texts + vector
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return sums / lengths, lengths


def _surest(each: Float64, kept: float) -> NDArray[np.int64]:
    """Places of the views with the lowest entropy."""
    spread = -(each * np.log(np.maximum(each, 1e-300))).sum(1)
    return np.argsort(spread, kind="stable")[: max(1, round(kept * len(each)))]


def _changed(samples: Float32, rng: np.random.Generator) -> Float32:
    """Rolled along time, two stretches silenced, another level."""
    changed = np.roll(samples, int(rng.integers(len(samples)))) * 10 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20)
    for _ in range(2):
        width = int(rng.uniform(0, MASKED_SHARE) * len(samples))
        start = int(rng.integers(max(1, len(samples) - width)))
        changed[start : start + width] = 0.0
    return changed.astype(np.float32)
