"""Token by token: greedy decoding as the authors do it, or seeded sampling, until a stop or the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from alm.answering.answers import FinishReason
from alm.answering.drafts import CLEAR, Continuation
from alm.engines.base import Decoder, Float32, KVCache
from alm.errors import EngineError, PromptError
from alm.texts.detokenize import TextStream


class GenerationOptions(TypedDict, total=False):
    """The keyword arguments that `ask`, `stream` and `compare` share."""

    max_tokens: int | None
    """Most tokens to generate per window; the package's default when left out."""
    temperature: float
    """0, the default, decodes greedily; above 0 samples from the softmax of logits / temperature."""
    top_p: float
    """Sample among the fewest likeliest tokens that hold this mass; 1, the default, keeps all. Greedy ignores it."""
    seed: int | None
    """Makes sampling repeatable: the same seed gives the same answer on the same machine. Greedy ignores it."""
    stop: str | Sequence[str]
    """The answer ends before the first of these strings that comes up."""
    draft: str
    """A guess at the answer, such as the one about the sound before. The answer is the same with any draft, but comes
    sooner the longer its beginning is right. Sampling ignores it."""
    beams: int
    """Above 1, that many continuations are held against each other and the likeliest per token wins; it comes in one
    piece. A temperature then flattens the probabilities (0 counts as 1), and top_p, seed and draft are ignored."""


@dataclass(frozen=True)
class Settings:
    """Checked generation options."""

    max_tokens: int | None = None
    """Most tokens to generate, at least 1; None takes the package's default."""
    temperature: float = 0.0
    """0 for greedy decoding, else what logits are divided by."""
    top_p: float = 1.0
    """Nucleus mass in (0, 1]."""
    seed: int | None = None
    """Seed of the sampler; None draws a fresh one."""
    stop: str | Sequence[str] = ()
    """Strings that end the answer."""
    draft: str = ""
    """A guess at the answer; empty for none."""
    beams: int = 1
    """Continuations held against each other, from 1 to 64."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        _require(
            self.max_tokens is None or (isinstance(self.max_tokens, Integral) and self.max_tokens >= 1),
            f"max_tokens is {self.max_tokens!r}; it must be a whole number, at least 1",
        )
        _require(
            _is_number(self.temperature) and self.temperature >= 0,
            f"temperature is {self.temperature!r}; it must be 0 (greedy) or a finite number above it",
        )
        _require(
            _is_number(self.top_p) and 0 < self.top_p <= 1,
            f"top_p is {self.top_p!r}; it must be above 0 and at most 1",
        )
        _require(
            self.seed is None or (isinstance(self.seed, Integral) and self.seed >= 0),
            f"seed is {self.seed!r}; it must be a whole number, at least 0",
        )
        _require(
            all(isinstance(text, str) and text for text in self.stop),
            f"stop is {self.stop!r}; it must hold strings that are not empty",
        )
        _require(
            isinstance(self.beams, Integral) and 1 <= self.beams <= 64,
            f"beams is {self.beams!r}; it must be a whole number from 1 (no beam search) to 64",
        )
        _require(isinstance(self.draft, str), f"draft is {self.draft!r}; it must be a text, such as an earlier answer")


@dataclass(frozen=True, eq=False)
class Beginning:
    """A sequence that an answer continues, and what ends the answer."""

    decoder: Decoder
    """Runs the answer's tokens."""
    cache: KVCache
    """Holds the sequence; the answer is appended to it."""
    logits: Float32
    """Those (vocabulary,) of the sequence's last position."""
    stop_id: int
    """Token that ends the answer."""
    budget: int
    """Most tokens that follow."""
    decode: Callable[[Sequence[int]], str]
    """From ids to text."""


class Generation:
    """Continues the sequence in a cache. Iterate once: (id, text) per generated token.

    The texts joined are exactly the answer's text, which ends before the stop token or stop string.
    """

    finish_reason: FinishReason = "length"
    """Why it ended; valid after the last token."""

    def __init__(
        self, beginning: Beginning, settings: Settings, draft: Sequence[int] = (), clear: float = CLEAR
    ) -> None:
        """`draft` holds the ids of a guess at the answer, which sampling ignores; `clear` as for `Continuation`."""
        # The last token is never run: nothing follows it, so it needs no position.
        draft = draft[: beginning.budget - 1] if settings.temperature == 0 else ()
        self._beginning = beginning
        self._continuation = Continuation(beginning.decoder, beginning.cache, draft, clear)
        self._pick = sampler(settings)
        self._text = TextStream(beginning.decode, settings.stop)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        logits = self._beginning.logits
        for left in range(self._beginning.budget, 0, -1):
            token = self._pick(logits)
            if token == self._beginning.stop_id:
                self.finish_reason = "stop"
                break
            yield from self._text.push(token)
            if self._text.stopped:
                self.finish_reason = "stop_string"
                return
            if left > 1:
                logits = self._continuation.after(token)
        yield from self._text.finish()


def sampler(settings: Settings) -> Callable[[Float32], int]:
    """The rule that turns logits (vocabulary,) into the next id."""
    if settings.temperature == 0:
        return greedy
    generator = np.random.default_rng(settings.seed)
    return lambda logits: _sample(logits, settings.temperature, settings.top_p, generator)


def greedy(logits: Float32) -> int:
    """The likeliest id; the lowest of equals, as the authors' argmax. EngineError for NaN or infinity."""
    best = int(np.argmax(logits))
    # argmax returns the first NaN if there is one, so this one look finds any.
    if not math.isfinite(float(logits[best])):
        raise EngineError(
            f"the decoder returned {logits[best]} as a logit where a finite number was expected; "
            "run 'alm verify' on the package to find the stage that fails on this machine"
        )
    return best


def _sample(logits: Float32, temperature: float, top_p: float, generator: np.random.Generator) -> int:
    best = greedy(logits)
    # Subtracting the peak first keeps a tiny temperature from overflowing.
    weights = np.exp((logits.astype(np.float64) - float(logits[best])) / temperature)
    ids = _nucleus(weights, top_p) if top_p < 1 else np.arange(len(weights))
    mass = np.cumsum(weights[ids])
    drawn = int(np.searchsorted(mass, generator.random() * mass[-1], side="right"))
    return int(ids[min(drawn, len(ids) - 1)])


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """The fewest heaviest ids that together hold top_p of the weight, heaviest first."""
    total = float(weights.sum())
    # All ids below this weight together hold less than 1 - top_p, so none of them belongs. Sorting only the
    # others takes 0.3 ms per token where sorting a vocabulary of 49152 takes 7.
    ids = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))
    ids = ids[np.argsort(-weights[ids], kind="stable")]
    return ids[: int(np.searchsorted(np.cumsum(weights[ids]), top_p * total)) + 1]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise PromptError(message)
