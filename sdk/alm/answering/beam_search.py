"""Beam search as ClapCap's authors do it, with keys and values kept.

Scores are log-probabilities averaged over a beam's own length, while searching and at the end, so that a beam that has
stopped competes with growing ones (microsoft/CLAP, its caption wrapper).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm.answering.answers import FinishReason
from alm.answering.generation import Beginning, Settings, greedy
from alm.engines.base import Float32, KVCache
from alm.texts.detokenize import TextStream


@dataclass(frozen=True)
class Beam:
    """One way to go on."""

    tokens: tuple[int, ...]
    """What was generated, the stop token included when it came."""
    score: float
    """Sum of the tokens' log-probabilities."""
    stopped: bool
    """Whether the last token is the stop token."""
    cache: KVCache
    """Holds all positions but the last token's; shared by beams with the same beginning until one goes on."""

    @property
    def average(self) -> float:
        """What beams are ranked by."""
        return self.score / len(self.tokens)


class BeamSearch:
    """The best of several continuations of the sequence in a cache. Iterate once, as a `Generation`."""

    finish_reason: FinishReason = "length"
    """Why it ended; valid after the last token."""

    def __init__(self, beginning: Beginning, settings: Settings) -> None:
        self._beginning = beginning
        self._count = settings.beams
        self._temperature = settings.temperature or 1.0
        self._text = TextStream(beginning.decode, settings.stop)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        best = self.search()[0]
        for token in best.tokens[: -1 if best.stopped else None]:
            yield from self._text.push(token)
            if self._text.stopped:
                self.finish_reason = "stop_string"
                return
        self.finish_reason = "stop" if best.stopped else "length"
        yield from self._text.finish()

    def search(self) -> list[Beam]:
        """All beams, the best first."""
        beams = self._first()
        for _ in range(self._beginning.budget - 1):
            if all(beam.stopped for beam in beams):
                break
            beams = self._next(beams)
        return sorted(beams, key=lambda beam: -beam.average)

    def _first(self) -> list[Beam]:
        chances = self._log_probabilities(self._beginning.logits)
        return [
            Beam((int(token),), float(chances[token]), token == self._beginning.stop_id, self._beginning.cache)
            for token in _largest(chances, self._count)
        ]

    def _next(self, beams: list[Beam]) -> list[Beam]:
        """The best of all beams one token longer; a stopped beam stays as it is."""
        decoder, stop_id = self._beginning.decoder, self._beginning.stop_id
        grown = _own_caches(beams)
        candidates: list[Beam] = [beam for beam in grown if beam.stopped]
        for beam in grown:
            if beam.stopped:
                continue
            last = decoder.embed(np.array(beam.tokens[-1:], np.int64))
            chances = self._log_probabilities(beam.cache.append(last))
            candidates += [
                Beam((*beam.tokens, int(token)), beam.score + float(chances[token]), token == stop_id, beam.cache)
                for token in _largest(chances, self._count)
            ]
        return sorted(candidates, key=lambda beam: -beam.average)[: self._count]

    def _log_probabilities(self, logits: Float32) -> NDArray[np.float64]:
        shifted = (logits.astype(np.float64) - float(logits[greedy(logits)])) / self._temperature
        chances: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
        return chances


def _own_caches(beams: list[Beam]) -> list[Beam]:
    """The beams, those that go on each with a cache of its own: the last user of one keeps it, the others get forks."""
    users: dict[int, int] = {}
    for beam in beams:
        if not beam.stopped:
            users[id(beam.cache)] = users.get(id(beam.cache), 0) + 1
    own = []
    for beam in beams:
        if not beam.stopped:
            users[id(beam.cache)] -= 1
            beam = beam if users[id(beam.cache)] == 0 else replace(beam, cache=beam.cache.fork())
        own.append(beam)
    return own


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Places of the `count` largest values, the largest first, the lower place of equals."""
    count = min(count, len(values))
    found = np.argpartition(-values, count - 1)[:count]
    return found[np.lexsort((found, -values[found]))]
