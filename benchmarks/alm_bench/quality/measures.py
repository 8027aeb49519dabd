"""Scores with their size and interval, and the difference between two packages on the same examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
Places = NDArray[np.int64]
Statistic = Callable[[Places], float]


@dataclass(frozen=True)
class Measure:
    """A figure of merit of one package, ready to be computed on any draw of its examples."""

    task: str
    """Key of `TASKS`."""
    group: str
    """What of the task, such as "CLE zero-shot"."""
    metric: str
    """What is computed, such as "accuracy"."""
    ids: tuple[str, ...]
    """The examples."""
    clips: tuple[str, ...]
    """The clip of each."""
    statistic: Statistic
    """Places in `ids`, with repetitions, to the value on these."""

    @property
    def name(self) -> tuple[str, str, str]:
        """What makes two measures comparable."""
        return self.task, self.group, self.metric


@dataclass(frozen=True)
class Interval:
    """A value and the 95 % interval around it."""

    value: float
    """On all examples."""
    low: float
    """2.5 % of draws are below."""
    high: float
    """2.5 % of draws are above."""
    n: int
    """Examples."""
    clips: int
    """Clips that they are about: what was drawn."""


def mean_of(values: Sequence[float]) -> Statistic:
    """The statistic that is a mean, such as an accuracy of right (1) and wrong (0)."""
    array = np.asarray(values, dtype=np.float64)
    return lambda places: float(array[places].mean())


def interval(measure: Measure) -> Interval:
    """The value with a bootstrap over clips, since several examples are about one clip."""
    everything = np.arange(len(measure.ids))
    values = [measure.statistic(places) for places in _draws(measure.clips, everything)]
    return _interval(measure.statistic(everything), values, measure.clips)


def difference(one: Measure, other: Measure) -> Interval:
    """`other` minus `one` on the examples that both have, both drawn alike. Raises ValueError when there are none."""
    theirs = {id: place for place, id in enumerate(other.ids)}
    places = np.array([place for place, id in enumerate(one.ids) if id in theirs])
    if not len(places):
        raise ValueError(f"two packages have no example of {' / '.join(one.name)} in common")
    across = np.full(len(one.ids), -1)
    across[places] = [theirs[one.ids[place]] for place in places]

    def apart(drawn: Places) -> float:
        return other.statistic(across[drawn]) - one.statistic(drawn)

    clips = tuple(one.clips[place] for place in places)
    return _interval(apart(places), [apart(drawn) for drawn in _draws(clips, places)], clips)


def _draws(clips: Sequence[str], places: Places) -> list[Places]:
    """`RESAMPLES` draws of whole clips with replacement, as places; the same for the same clips."""
    members: dict[str, list[int]] = {}
    for clip, place in zip(clips, places, strict=True):
        members.setdefault(clip, []).append(int(place))
    groups = [np.array(group) for group in members.values()]
    random = np.random.default_rng(0)
    return [
        np.concatenate([groups[i] for i in random.integers(len(groups), size=len(groups))]) for _ in range(RESAMPLES)
    ]


def _interval(value: float, drawn: Sequence[float], clips: Sequence[str]) -> Interval:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high), len(clips), len(set(clips)))
